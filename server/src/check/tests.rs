use super::*;
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;

const HOSTS: &str = "[general]\nhosts = ['a.example']\n";

/// What is said of a file with this text in a directory of its own, `DIR` in the text, and with which exit code.
struct Desk(tempfile::TempDir);

impl Desk {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn check(&self, text: &str) -> (String, ExitCode) {
        let directory = self.0.path().display().to_string();
        let path = self.0.path().join("f.toml");
        fs::write(&path, text.replace("DIR", &directory)).unwrap();
        let (text, code) = report(&path, Some(&self.0.path().join("data")));
        // This machine may have too little of something.
        let lines = text
            .lines()
            .filter(|line| !line.starts_with("warning: this machine: "));
        let lines: Vec<String> = lines.map(|line| line.replace(&directory, "DIR")).collect();
        (lines.join("\n") + "\n", code)
    }

    /// Writes a certificate and its key under these names.
    fn certificate(&self, names: [&str; 2], domain: &str) {
        let made = daemon::self_signed(&self.0.path().join("made"), &[domain]).unwrap();
        fs::copy(made.cert, self.0.path().join(names[0])).unwrap();
        fs::copy(made.key, self.0.path().join(names[1])).unwrap();
        fs::remove_dir_all(self.0.path().join("made")).unwrap();
    }
}

#[test]
fn the_check_of_a_file_prints_all_and_says_so_by_its_exit_code() {
    let desk = Desk::new();
    let (text, code) = desk.check(HOSTS);
    assert_eq!(text, "DIR/f.toml: no findings\n");
    assert_eq!(code, ExitCode::SUCCESS);

    let (text, code) = desk.check("[general]\nhosts = []\nloglevl = 1\n");
    assert_eq!(
        text.lines().filter(|line| line.contains("f.toml:")).count(),
        2
    );
    assert_eq!(code, ExitCode::from(78));
}

const TLS: &str = "[[listen.c2s]]\nport = 0\ntls = { certfile = 'DIR/c', keyfile = 'DIR/k' }\n";

#[test]
fn a_certificate_that_is_not_there_is_a_finding() {
    let desk = Desk::new();
    fs::write(desk.0.path().join("k"), "").unwrap();
    let (text, code) = desk.check(&format!("{HOSTS}{TLS}"));
    let expected = "DIR/f.toml:5:20: `certfile`: cannot be read: No such file";
    assert!(text.starts_with(expected), "{text}");
    assert_eq!(text.lines().count(), 4);
    assert_eq!(code, ExitCode::from(78));
}

#[test]
fn files_of_all_listeners_are_read_in_one_go() {
    let desk = Desk::new();
    desk.certificate(["c", "k"], "a.example");
    desk.certificate(["other", "unused"], "b.example");
    fs::write(desk.0.path().join("empty"), "").unwrap();
    let two = "[[listen.c2s]]\nport = 0\n[listen.c2s.tls]\ncertfile = 'DIR/other'\nkeyfile = 'DIR/k'\n\
               [[listen.c2s]]\nport = 0\ntls = { certfile = 'DIR/empty', keyfile = 'DIR/empty' }\n";
    let (text, code) = desk.check(&format!("{HOSTS}{TLS}{two}"));
    let told: Vec<&str> = text
        .lines()
        .filter(|line| line.starts_with("DIR/f.toml:"))
        .collect();
    let expected = [
        "DIR/f.toml:10:11: `keyfile`: the private key does not belong to the certificate in DIR/other",
        "DIR/f.toml:13:20: `certfile`: holds no certificate",
        "DIR/f.toml:13:20: `certfile`: holds no private key",
    ];
    assert_eq!(told, expected, "{text}");
    assert!(
        text.contains("^ take both from the same order"),
        "how to mend it is said:\n{text}"
    );
    assert_eq!(code, ExitCode::from(78));
}

#[test]
fn a_certificate_for_other_names_is_a_warning() {
    let desk = Desk::new();
    desk.certificate(["c", "k"], "b.example");
    let (text, code) = desk.check(&format!("{HOSTS}{TLS}"));
    let expected = "DIR/f.toml: no findings\n\
                    DIR/f.toml:5:20: warning: the certificate is not for \"a.example\"\n";
    assert!(text.starts_with(expected), "{text}");
    assert_eq!(code, ExitCode::SUCCESS);
    desk.certificate(["own", "own-key"], "a.example");
    let own = "[[listen.c2s.tls.certificates]]\ndomain = 'a.example'\n\
               certfile = 'DIR/own'\nkeyfile = 'DIR/own-key'\n";
    let tls = TLS
        .replace("tls = {", "[listen.c2s.tls]\n")
        .replace(", ", "\n");
    let (text, _) = desk.check(&format!("{HOSTS}{}\n{own}", tls.replace(" }", "")));
    assert_eq!(text, "DIR/f.toml: no findings\n");
}

#[test]
fn a_directory_that_takes_no_files_is_a_finding() {
    let desk = Desk::new();
    fs::write(desk.0.path().join("data"), "").unwrap();
    let (text, code) = desk.check(HOSTS);
    let expected = "DIR/f.toml:1:1: the data directory DIR/data: DIR/data is not a directory\n";
    assert!(text.starts_with(expected), "{text}");
    assert_eq!(code, ExitCode::from(78));

    let desk = Desk::new();
    let database = "[outgoing_pools.rdbms.default.connection]\ndriver = 'sqlite'\n\
                    database = 'DIR/missing/m.db'\n";
    let (text, code) = desk.check(&format!("{HOSTS}{database}"));
    let expected = "DIR/f.toml:5:12: there is no directory DIR/missing\n";
    assert!(text.starts_with(expected), "{text}");
    assert_eq!(code, ExitCode::from(78));
}

#[test]
fn a_directory_for_everybody_is_a_warning() {
    let desk = Desk::new();
    let data = desk.0.path().join("data");
    fs::create_dir(&data).unwrap();
    fs::set_permissions(&data, fs::Permissions::from_mode(0o755)).unwrap();
    let (text, code) = desk.check(HOSTS);
    assert!(
        text.contains(": warning: others may look into DIR/data\n"),
        "{text}"
    );
    assert_eq!(code, ExitCode::SUCCESS);
    fs::set_permissions(&data, fs::Permissions::from_mode(0o700)).unwrap();
    assert_eq!(desk.check(HOSTS).0, "DIR/f.toml: no findings\n");
}

#[test]
fn a_port_of_another_program_is_a_warning_unless_it_is_our_own() {
    let desk = Desk::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let text = format!(
        "{HOSTS}[[listen.c2s]]\nip_address = '127.0.0.1'\nport = {}\ntls = {{}}\n",
        address.port()
    );
    let (said, code) = desk.check(&text);
    let expected = format!("DIR/f.toml:5:8: warning: cannot listen on {address}: ");
    assert!(said.contains(&expected), "{said}");
    assert_eq!(code, ExitCode::SUCCESS);

    let data = desk.0.path().join("data");
    fs::create_dir(&data).unwrap();
    fs::set_permissions(&data, fs::Permissions::from_mode(0o700)).unwrap();
    let _node = data_dir::lock(&data).unwrap();
    assert_eq!(desk.check(&text).0, "DIR/f.toml: no findings\n");
}

#[test]
fn needs_follow_the_limits_that_somebody_chose() {
    let needs = |listeners: &str| {
        let config = Config::parse(&format!("{HOSTS}{listeners}"), "f").unwrap();
        super::needs(&config, Path::new("/data"))
    };
    let listener = |limit: &str| {
        format!(
            "[[listen.c2s]]\nport = 5222\nbacklog = 77\ntls = {{}}\nmax_connections = {limit}\n"
        )
    };
    let found = needs(&listener("200_000"));
    assert_eq!(found.connections, 200_000);
    assert_eq!(found.backlog, 77);
    assert_eq!(found.ports, [5222]);
    assert_eq!(
        found.directories,
        [
            PathBuf::from("/data"),
            std::env::current_dir().unwrap().join("meerkat-data")
        ]
    );
    assert_eq!(found.other_files, 256 + 3 * 11);
    assert_eq!(
        needs(&listener("'infinity'")).connections,
        CONNECTIONS_EXPECTED
    );
    assert_eq!(
        needs(&listener("1_000_000")).connections,
        CONNECTIONS_EXPECTED
    );
    assert_eq!(needs("").connections, 0);
    let http = "[[listen.http]]\nport = 9091\ntransport.max_connections = 70_000\n\
                [[listen.http.handlers.mongoose_prometheus_handler]]\nhost = '_'\npath = '/metrics'\n";
    let found = needs(http);
    assert_eq!((found.connections, found.ports), (70_000, vec![9091]));
}
