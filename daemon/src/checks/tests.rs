use super::*;
use std::fs;
use std::path::Path;
use std::time::SystemTime;

fn needs() -> Needs {
    Needs {
        connections: 90_000,
        other_files: 10_000,
        backlog: 1024,
        directories: Vec::new(),
        ports: vec![5222, 40_000],
    }
}

/// A machine that has just what is needed.
fn enough() -> Facts {
    Facts {
        open_files: Some(100_000),
        system_files: Some(100_000),
        accept_queue: Some(1024),
        tcp_pages: Some(TcpPages { max: 180_000 }),
        tracked_connections: Some(90_000),
        memory: Some(Memory {
            bytes: needs().memory_bytes(),
            limit_of: "of the machine",
        }),
        commit_left_bytes: Some(needs().memory_bytes()),
        disks: vec![disk_of(FREE_BYTES_MIN, FREE_INODES_MIN, 1 << 20)],
        outgoing_ports: Some(32_768..=60_999),
        reserved_ports: vec![40_000..=40_010],
        clock: Clock::Synchronised,
    }
}

fn disk_of(free_bytes: u64, free_inodes: u64, inodes: u64) -> Disk {
    Disk {
        path: "/data".into(),
        free_bytes,
        free_inodes,
        inodes,
    }
}

#[test]
fn a_machine_that_suffices_is_not_mentioned() {
    assert_eq!(compare(&enough(), &needs()), []);
}

#[test]
fn what_is_not_known_says_nothing() {
    assert_eq!(compare(&Facts::default(), &needs()), []);
}

#[test]
fn what_falls_short_is_named_with_both_numbers() {
    type Change = fn(&mut Facts);
    let rows: [(Change, &str); 13] = [
        (
            |facts| facts.open_files = Some(1024),
            "open files limit (RLIMIT_NOFILE) is 1024, needed 100000: set LimitNOFILE=",
        ),
        (
            |facts| facts.system_files = Some(99_999),
            "open files limit of the whole system (fs.file-max) is 99999, needed 100000: raise",
        ),
        (
            |facts| facts.accept_queue = Some(128),
            "accept queue limit (net.core.somaxconn) is 128, needed 1024: raise",
        ),
        (
            |facts| facts.tcp_pages = Some(TcpPages { max: 179_999 }),
            "memory for TCP in pages (net.ipv4.tcp_mem, third number) is 179999, needed 180000: ",
        ),
        (
            |facts| facts.tracked_connections = Some(65_536),
            "table of the firewall (net.netfilter.nf_conntrack_max) is 65536, needed 90000: raise",
        ),
        (
            |facts| facts.memory.as_mut().unwrap().bytes = 512 << 20,
            "memory (of the machine) is 512 MiB, needed 1534 MiB for 90000 connections: allow",
        ),
        (
            |facts| facts.commit_left_bytes = Some(1 << 20),
            "memory that may still be reserved (vm.overcommit_memory = 2) is 1 MiB, needed 1534 MiB: set",
        ),
        (
            |facts| facts.disks = vec![disk_of(FREE_BYTES_MIN - 1, FREE_INODES_MIN, 1)],
            "free space for /data is 1023 MiB, needed 1024 MiB or more: make room",
        ),
        (
            |facts| facts.disks = vec![disk_of(FREE_BYTES_MIN, 9_999, 1 << 20)],
            "free inodes for /data is 9999, needed 10000 or more: remove",
        ),
        (
            |facts| facts.reserved_ports.clear(),
            "listener's port 40000 is among those of outgoing connections \
             (net.ipv4.ip_local_port_range, 32768 to 60999), needed a port that nobody else gets: add",
        ),
        (
            |facts| facts.clock = Clock::Unsynchronised,
            "clock is not synchronised yet, needed a clock that a time server sets: let",
        ),
        (
            |facts| facts.clock = Clock::Behind(Duration::from_secs(90_000)),
            "clock is 90000 s before this program was made, needed the time of day: let",
        ),
        (
            |facts| {
                facts.memory = Some(Memory {
                    bytes: 0,
                    limit_of: "limit of the control group, MemoryMax=",
                });
            },
            "memory (limit of the control group, MemoryMax=) is 0 MiB, needed 1534 MiB",
        ),
    ];
    for (change, expected) in rows {
        let mut facts = enough();
        change(&mut facts);
        let warnings = compare(&facts, &needs());
        let [only] = &warnings[..] else {
            panic!("{expected}: {warnings:?}");
        };
        assert!(only.to_string().starts_with(expected), "{only}");
    }
}

#[test]
fn a_disk_without_inodes_of_its_own_is_none_with_too_few() {
    let mut facts = enough();
    facts.disks = vec![disk_of(FREE_BYTES_MIN, 0, 0)];
    assert_eq!(compare(&facts, &needs()), []);
}

#[test]
fn limits_beyond_all_numbers_do_not_overflow() {
    let needs = Needs {
        connections: u64::MAX,
        other_files: u64::MAX,
        ..Needs::default()
    };
    assert!(compare(&enough(), &needs).len() >= 4);
}

/// Files below a directory of the test's own, laid out as `/` is.
fn machine(files: &[(&str, &str)]) -> (tempfile::TempDir, Facts) {
    let root = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    let facts = Facts::below(root.path());
    (root, facts)
}

#[test]
fn a_machine_is_read_from_its_files() {
    let (_root, facts) = machine(&[
        ("proc/sys/fs/file-max", "9223372036854775807\n"),
        ("proc/sys/net/core/somaxconn", "4096\n"),
        ("proc/sys/net/ipv4/tcp_mem", "1\t2\t3\n"),
        ("proc/sys/net/netfilter/nf_conntrack_max", "262144\n"),
        (
            "proc/meminfo",
            "MemTotal:  4096 kB\nCommitLimit:  300 kB\nCommitted_AS: 100 kB\n",
        ),
        ("proc/sys/vm/overcommit_memory", "2\n"),
        ("proc/self/cgroup", "0::/system.slice/meerkat.service\n"),
        (
            "sys/fs/cgroup/system.slice/meerkat.service/memory.max",
            "max\n",
        ),
        ("sys/fs/cgroup/system.slice/memory.max", "2097152\n"),
        ("proc/sys/net/ipv4/ip_local_port_range", "32768\t60999\n"),
        (
            "proc/sys/net/ipv4/ip_local_reserved_ports",
            "40000,41000-41005\n",
        ),
        ("run/systemd/timesync/synchronized", ""),
    ]);
    let expected = Facts {
        open_files: None,
        system_files: Some(9_223_372_036_854_775_807),
        accept_queue: Some(4096),
        tcp_pages: Some(TcpPages { max: 3 }),
        tracked_connections: Some(262_144),
        memory: Some(Memory {
            bytes: 2 << 20,
            limit_of: "limit of the control group, MemoryMax=",
        }),
        commit_left_bytes: Some(200 * 1024),
        disks: Vec::new(),
        outgoing_ports: Some(32_768..=60_999),
        reserved_ports: vec![40_000..=40_000, 41_000..=41_005],
        clock: Clock::Synchronised,
    };
    assert_eq!(facts, expected);
}

#[test]
fn control_groups_of_the_first_version_are_read_too() {
    let (_root, facts) = machine(&[
        ("proc/meminfo", "MemTotal:  4096 kB\n"),
        ("proc/self/cgroup", "4:memory:/a\n1:name=systemd:/b\n0::/\n"),
        ("sys/fs/cgroup/memory/a/memory.limit_in_bytes", "1048576\n"),
        ("proc/sys/vm/overcommit_memory", "0\n"),
    ]);
    assert_eq!(facts.memory.unwrap().bytes, 1 << 20);
    assert_eq!(facts.commit_left_bytes, None);
}

#[test]
fn files_that_are_not_there_or_make_no_sense_say_nothing() {
    let (_root, facts) = machine(&[]);
    assert_eq!(facts, Facts::default());
    let (_root, facts) = machine(&[
        ("proc/sys/net/core/somaxconn", "many"),
        ("proc/sys/net/ipv4/tcp_mem", "1 2"),
        ("proc/meminfo", "MemTotal: 18446744073709551615 kB\n"),
        ("proc/self/cgroup", "0:\nmemory\n::\n"),
        ("proc/sys/net/ipv4/ip_local_port_range", "1 99999"),
        ("proc/sys/net/ipv4/ip_local_reserved_ports", "x,-,1-"),
        ("run/systemd/timesync/other", ""),
    ]);
    let nothing = Facts {
        clock: Clock::Unsynchronised,
        ..Facts::default()
    };
    assert_eq!(facts, nothing);
}

#[test]
fn a_clock_before_the_program_is_wrong() {
    let check = |ahead: Duration, expected: Clock| {
        let root = tempfile::tempdir().unwrap();
        let program = root.path().join("proc/self/exe");
        fs::create_dir_all(program.parent().unwrap()).unwrap();
        let file = fs::File::create(&program).unwrap();
        file.set_modified(SystemTime::now() + ahead).unwrap();
        let found = Facts::below(root.path()).clock;
        let of_kind = |clock| std::mem::discriminant(&clock);
        assert_eq!(of_kind(found), of_kind(expected), "{ahead:?}: {found:?}");
    };
    check(CLOCK_BEHIND_MAX / 2, Clock::Unknown);
    check(CLOCK_BEHIND_MAX * 2, Clock::Behind(CLOCK_BEHIND_MAX));
}

#[test]
fn the_disk_of_a_directory_that_is_not_there_yet_is_that_around_it() {
    let directory = tempfile::tempdir().unwrap();
    let here = disk(directory.path()).unwrap();
    let below = disk(&directory.path().join("a/b")).unwrap();
    assert_eq!(here.inodes, below.inodes);
    assert!(here.free_bytes > 0);
    assert!(disk(Path::new("/dev/null/x")).is_err());
}

#[test]
fn the_soft_limit_reaches_the_hard_limit() {
    let limit = raise_open_files().unwrap().now;
    let (soft, _hard) = rlimit::Resource::NOFILE.get().unwrap();
    assert_eq!(limit, soft);
    let needs = |other_files| Needs {
        other_files,
        ..Needs::default()
    };
    let of_files = |warnings: Vec<Warning>| {
        let mut warnings = warnings.into_iter();
        warnings.any(|warning| warning.what.contains("RLIMIT_NOFILE"))
    };
    assert!(!of_files(run(&needs(limit))));
    assert!(of_files(run(&needs(limit + 1))));
}
