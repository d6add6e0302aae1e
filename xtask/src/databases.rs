//! `cargo xtask databases`: a PostgreSQL and a MariaDB of their own for one command.
//!
//! They listen on loopback, keep their files in a folder that is removed at the end, and flush nothing to the disk. The
//! command finds them by two variables, with `host port username password` of an administrator; two more name the files
//! with their certificates.
use std::fmt::Write as _;
use std::fs;
use std::io::Read as _;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::run;

const USAGE: &str = "\
cargo xtask databases COMMAND…

Starts a PostgreSQL and a MariaDB for one command, which finds them in MEERKAT_TEST_PGSQL and MEERKAT_TEST_MYSQL, as
  cargo xtask databases cargo test -p server --lib store";

/// A server is ready after this time, or never.
const START_MAX: Duration = Duration::from_secs(60);
/// A server that does not end by itself after this time is killed.
const STOP_MAX: Duration = Duration::from_secs(20);
const USERNAME: &str = "meerkat";

pub(crate) fn run(args: &[String]) -> Result<()> {
    let [program, rest @ ..] = args else {
        bail!("a command is missing\n\n{USAGE}");
    };
    if program == "--help" {
        println!("{USAGE}");
        return Ok(());
    }
    let databases = Databases::start()?;
    run::check(databases.tell(run::command(program).args(rest)))
}

/// Both servers, stopped when this is dropped.
pub(crate) struct Databases {
    postgres: Server,
    mariadb: Server,
}

impl Databases {
    /// Starts both.
    pub(crate) fn start() -> Result<Self> {
        let password = random_hex()?;
        let postgres = start_postgres(&password).context("PostgreSQL cannot be started")?;
        let mariadb = start_mariadb(&password).context("MariaDB cannot be started")?;
        Ok(Self { postgres, mariadb })
    }

    /// Says to a program where they are.
    pub(crate) fn tell<'c>(&self, command: &'c mut Command) -> &'c mut Command {
        command
            .env("MEERKAT_TEST_PGSQL", self.postgres.address())
            .env("MEERKAT_TEST_PGSQL_CA", self.postgres.certificate())
            .env("MEERKAT_TEST_MYSQL", self.mariadb.address())
            .env("MEERKAT_TEST_MYSQL_CA", self.mariadb.certificate())
    }
}

/// A server with its files.
struct Server {
    child: Child,
    folder: PathBuf,
    port: u16,
    password: String,
}

impl Server {
    fn address(&self) -> String {
        format!("127.0.0.1 {} {USERNAME} {}", self.port, self.password)
    }

    fn certificate(&self) -> PathBuf {
        self.folder.join("cert.pem")
    }

    /// Waits until it takes connections.
    fn wait_until(&mut self, is_ready: impl Fn(u16) -> bool) -> Result<()> {
        let began = Instant::now();
        while !is_ready(self.port) {
            if let Some(status) = self.child.try_wait()? {
                bail!("it ended ({status}):\n{}", self.log());
            }
            if began.elapsed() > START_MAX {
                bail!("it is not ready after {START_MAX:?}:\n{}", self.log());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // SIGTERM lets both end in good order; nobody needs what they would flush, but their helpers end with them.
        let stopped = run::succeeds(run::command("kill").arg(self.child.id().to_string()));
        let began = Instant::now();
        while stopped && began.elapsed() < STOP_MAX {
            if matches!(self.child.try_wait(), Ok(Some(_))) {
                break;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn start_postgres(password: &str) -> Result<Server> {
    let folder = make_folder("pgsql", "postgres")?;
    let programs = postgres_programs()?;
    let (data, password_file) = (folder.join("data"), folder.join("password"));
    fs::write(&password_file, password)?;
    fs::set_permissions(&password_file, fs::Permissions::from_mode(0o644))?;
    run::output(
        as_user("postgres", programs.join("initdb"))
            .arg("--pgdata")
            .arg(&data)
            .args(["--username", USERNAME, "--auth", "scram-sha-256"])
            .arg("--pwfile")
            .arg(&password_file)
            .args(["--encoding", "UTF8", "--locale", "C.UTF-8", "--no-sync"]),
    )?;
    let port = free_port()?;
    make_certificate("postgres", &folder)?;
    let mut command = as_user("postgres", programs.join("postgres"));
    command.arg("-D").arg(&data).args(["-p", &port.to_string()]);
    for (setting, file) in [("ssl_cert_file", "cert.pem"), ("ssl_key_file", "key.pem")] {
        let path = folder.join(file);
        command.args(["-c", &format!("{setting}={}", path.display())]);
    }
    for setting in [
        "ssl=on",
        "listen_addresses=127.0.0.1",
        "unix_socket_directories=",
        "max_connections=300",
        "fsync=off",
        "full_page_writes=off",
    ] {
        command.args(["-c", setting]);
    }
    let mut server = spawn(command, folder, port, password)?;
    // SIGTERM would wait for clients that are still connected: there are none, or they hang.
    server.wait_until(|port| {
        let mut probe = run::command(programs.join("pg_isready"));
        run::succeeds(probe.args(["-q", "-h", "127.0.0.1", "-p", &port.to_string()]))
    })?;
    Ok(server)
}

/// Where Debian has the programs of the newest PostgreSQL.
fn postgres_programs() -> Result<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql")
        .context("PostgreSQL is missing; install it with `cargo xtask test install`")?;
    let folders = versions.filter_map(|entry| Some(entry.ok()?.path().join("bin")));
    let newest = folders.filter(|bin| bin.join("initdb").exists()).max();
    newest.context("PostgreSQL is missing; install it with `cargo xtask test install`")
}

fn start_mariadb(password: &str) -> Result<Server> {
    let folder = make_folder("mysql", "mysql")?;
    let data = folder.join("data");
    run::output(
        as_user("mysql", "mariadb-install-db")
            .arg("--no-defaults")
            .arg(format!("--datadir={}", data.display()))
            .args(["--auth-root-authentication-method=normal", "--skip-test-db"]),
    )?;
    // Read before the first client is let in.
    let init_file = folder.join("init.sql");
    let init = format!(
        "CREATE USER {USERNAME}@'127.0.0.1' IDENTIFIED BY '{password}';\n\
         GRANT ALL PRIVILEGES ON *.* TO {USERNAME}@'127.0.0.1' WITH GRANT OPTION;\n\
         ALTER USER root@localhost ACCOUNT LOCK;\n\
         CREATE DATABASE {USERNAME};\n"
    );
    fs::write(&init_file, init)?;
    fs::set_permissions(&init_file, fs::Permissions::from_mode(0o644))?;
    make_certificate("mysql", &folder)?;
    let port = free_port()?;
    let mut command = as_user("mysql", "mariadbd");
    command
        .arg("--no-defaults")
        .arg(format!("--datadir={}", data.display()))
        .arg(format!("--socket={}", folder.join("socket").display()))
        .arg(format!("--init-file={}", init_file.display()))
        .arg(format!("--ssl-cert={}", folder.join("cert.pem").display()))
        .arg(format!("--ssl-key={}", folder.join("key.pem").display()))
        .arg(format!("--port={port}"))
        .args([
            "--bind-address=127.0.0.1",
            "--skip-name-resolve",
            "--skip-log-bin",
            "--max-connections=300",
            "--innodb-flush-log-at-trx-commit=0",
            "--innodb-flush-method=nosync",
        ]);
    let mut server = spawn(command, folder, port, password)?;
    server.wait_until(|port| TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok())?;
    Ok(server)
}

/// A certificate of its own making, for loopback.
fn make_certificate(user: &str, folder: &Path) -> Result<()> {
    let mut openssl = as_user(user, "openssl");
    openssl
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
        ])
        .args(["-nodes", "-days", "2", "-subj", "/CN=localhost"])
        .args(["-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost"])
        .args(["-addext", "basicConstraints=critical,CA:FALSE", "-keyout"])
        .arg(folder.join("key.pem"))
        .arg("-out")
        .arg(folder.join("cert.pem"));
    run::output(&mut openssl).map(drop)
}

fn spawn(mut command: Command, folder: PathBuf, port: u16, password: &str) -> Result<Server> {
    let log = fs::File::create(folder.join("log"))?;
    let child = command
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .context("it is missing; install it with `cargo xtask test install`")?;
    Ok(Server {
        child,
        folder,
        port,
        password: password.to_owned(),
    })
}

/// Neither of them runs as root: then it runs as the user that its package made.
fn as_user(user: &str, program: impl AsRef<Path>) -> Command {
    // Debian has some of the programs where only root looks.
    let mut paths = std::env::var_os("PATH").unwrap_or_default();
    paths.push(":/usr/sbin:/sbin");
    let mut command = if is_root() {
        let mut command = run::command("setpriv");
        command.args(["--reuid", user, "--regid", user, "--init-groups", "--"]);
        command.arg(program.as_ref());
        command
    } else {
        run::command(program.as_ref())
    };
    command
        .env("PATH", paths)
        // Its own folder may be closed to that user.
        .current_dir("/");
    command
}

fn is_root() -> bool {
    run::output(run::command("id").arg("-u")).is_ok_and(|id| id.trim() == "0")
}

/// An empty folder that belongs to the user.
fn make_folder(name: &str, user: &str) -> Result<PathBuf> {
    let folder = std::env::temp_dir().join(format!("meerkat-{name}-{}", random_hex()?));
    fs::create_dir(&folder)?;
    if is_root() {
        run::output(
            run::command("chown")
                .arg(format!("{user}:{user}"))
                .arg(&folder),
        )?;
    }
    Ok(folder)
}

/// A port that nobody listens on.
fn free_port() -> Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    Ok(listener.local_addr()?.port())
}

fn random_hex() -> Result<String> {
    let mut bytes = [0; 8];
    fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    }))
}
