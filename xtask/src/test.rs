//! `cargo xtask test`: installs what the tests need, runs all of them, and says where the time went.
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::databases::Databases;
use crate::{demo, fuzz, package, run, tidy};

const USAGE: &str = "\
cargo xtask test [STAGE…]

Runs the stages in order and stops at the first that fails. With names, runs only those.";

/// Seconds that the fuzzers get together in a run of all tests.
const FUZZ_SECS: u64 = 60;

type Stage = fn() -> Result<()>;

/// In the order of cost: what fails fast comes first. All stages that compile name the whole workspace: cargo unites
/// the features of what is selected, and another selection would compile the dependencies again.
const STAGES: &[(&str, Stage)] = &[
    ("install", install),
    ("fmt", fmt),
    ("tidy", tidy::check_repository),
    ("clippy", clippy),
    ("build", build),
    ("unit", unit),
    ("doc", doc),
    ("whole", whole),
    ("interop", interop),
    ("proof", proof),
    ("demo", demo),
    ("package", package::test),
    ("fuzz", || fuzz::all(Duration::from_secs(FUZZ_SECS))),
];

/// How the names of the tests of `proof` begin, and no others.
const PROOF: &str = "proof::";

pub(crate) fn run(args: &[String]) -> Result<()> {
    let names: Vec<&str> = STAGES.iter().map(|(name, _)| *name).collect();
    if args.iter().any(|arg| arg == "--help") {
        println!("{USAGE}\n\nStages: {}", names.join(", "));
        return Ok(());
    }
    if let Some(unknown) = args.iter().find(|arg| !names.contains(&arg.as_str())) {
        bail!(
            "there is no stage `{unknown}`; stages are {}",
            names.join(", ")
        );
    }
    let began = Instant::now();
    let mut seconds = Vec::new();
    for (name, stage) in STAGES {
        if !args.is_empty() && !args.iter().any(|arg| arg == name) {
            continue;
        }
        println!("\n==== {name}");
        let stage_began = Instant::now();
        let result = stage();
        seconds.push((*name, stage_began.elapsed()));
        if let Err(error) = result {
            print_seconds(&seconds, began);
            return Err(error.context(format!(
                "stage `{name}` failed; again with `cargo xtask test {name}`"
            )));
        }
    }
    print_seconds(&seconds, began);
    println!("all stages passed");
    Ok(())
}

fn print_seconds(seconds: &[(&str, Duration)], began: Instant) {
    println!("\n==== seconds");
    for (name, duration) in seconds {
        println!("{name:<10} {:>7.1}", duration.as_secs_f64());
    }
    println!("{:<10} {:>7.1}", "total", began.elapsed().as_secs_f64());
}

fn fmt() -> Result<()> {
    run::check(run::cargo().args(["fmt", "--all", "--check"]))
}

fn clippy() -> Result<()> {
    let selection = ["clippy", "--workspace", "--all-targets", "--locked"];
    run::check(run::cargo().args(selection).args(["--", "-D", "warnings"]))
}

fn build() -> Result<()> {
    run::check(run::cargo().args(["build", "--workspace", "--all-targets", "--locked"]))
}

/// Where `build` puts programs.
fn programs() -> PathBuf {
    run::target_dir().join("debug")
}

fn cargo_test() -> Command {
    let mut command = run::cargo();
    command.args(["test", "--workspace", "--locked"]);
    command
}

/// With all databases.
fn unit() -> Result<()> {
    let databases = Databases::start()?;
    run::check(databases.tell(cargo_test().args(["--lib", "--bins"])))
}

fn doc() -> Result<()> {
    run::check(cargo_test().arg("--doc"))
}

/// Tests of the whole system, and of crates from the outside.
fn whole() -> Result<()> {
    build()?;
    let databases = Databases::start()?;
    run::check(
        databases.tell(
            cargo_test()
                .args(["--test", "*", "--", "--skip", PROOF])
                .env("MEERKAT_BINARY", programs().join("meerkat")),
        ),
    )
}

/// Other programs as clients. They count as slow tests, which run only when asked for.
fn interop() -> Result<()> {
    run::check(
        cargo_test()
            .args(["--test", "all", "--", "interop"])
            .env("RUN_SLOW_TESTS", "1")
            .env("INTEROP_PYTHON", python())
            .env("DEBIAN_PYTHON", DEBIAN_PYTHON)
            .env("INTEROP_MODULES", web().join("node_modules")),
    )
}

/// Nodes that are killed and drained under load. One test at a time: each needs the machine for itself.
fn proof() -> Result<()> {
    build()?;
    run::check(
        cargo_test()
            .args(["--test", "all", "--", PROOF, "--test-threads", "1"])
            .env("MEERKAT_BINARY", programs().join("meerkat")),
    )
}

/// The command of the README, with clients of ours that log in and talk.
fn demo() -> Result<()> {
    build()?;
    demo::check(&programs())
}

fn venv() -> PathBuf {
    run::target_dir().join("venv")
}

fn python() -> PathBuf {
    venv().join("bin/python")
}

/// Where npm puts what web clients are made of.
fn web() -> PathBuf {
    run::target_dir().join("web")
}

/// Debian's packages for Python are there for Debian's Python only.
const DEBIAN_PYTHON: &str = "/usr/bin/python3";

/// What tests need of Debian: how to see that it is there, and the packages that have it.
const DEBIAN: &[(&[&str], &[&str])] = &[
    // Debian keeps pip's own wheels in a package of their own.
    (
        &["python3", "-c", "import venv, ensurepip"],
        &["python3", "python3-venv"],
    ),
    (&["profanity", "--version"], &["profanity"]),
    (&["haproxy", "-v"], &["haproxy"]),
    (
        &["sh", "-c", "ls /usr/lib/postgresql/*/bin/initdb"],
        &["postgresql"],
    ),
    (&["openssl", "version"], &["openssl"]),
    (
        &["sh", "-c", "PATH=$PATH:/usr/sbin mariadbd --version"],
        &["mariadb-server"],
    ),
    // Gajim's library.
    (
        &[DEBIAN_PYTHON, "-c", "import nbxmpp.client"],
        &["python3-nbxmpp"],
    ),
    (&["chromium", "--version"], &["chromium"]),
    (&["npm", "--version"], &["nodejs", "npm"]),
];

/// Installs what is missing; when nothing is, this takes no time and needs no network.
fn install() -> Result<()> {
    for (tool, component) in [("fmt", "rustfmt"), ("clippy", "clippy")] {
        if !run::succeeds(run::cargo().args([tool, "--version"])) {
            bail!("`cargo {tool}` is missing; install it with `rustup component add {component}`");
        }
    }
    install_debian_packages()?;
    install_python_packages()?;
    install_node_packages()
}

fn install_debian_packages() -> Result<()> {
    let is_missing = |probe: &&[&str]| !run::succeeds(run::command(probe[0]).args(&probe[1..]));
    let missing: Vec<&str> = DEBIAN
        .iter()
        .filter(|(probe, _)| is_missing(probe))
        .flat_map(|(_, packages)| packages.iter().copied())
        .collect();
    if missing.is_empty() {
        println!("Debian's packages are there");
        return Ok(());
    }
    let is_root = run::output(run::command("id").arg("-u")).is_ok_and(|id| id.trim() == "0");
    if !is_root {
        bail!(
            "some packages are missing; install them with `sudo apt-get install {}`, then run this again",
            missing.join(" ")
        );
    }
    run::check(run::command("apt-get").args(["update", "--quiet"]))?;
    run::check(
        run::command("apt-get")
            .args(["install", "--yes", "--quiet", "--no-install-recommends"])
            .args(missing)
            .env("DEBIAN_FRONTEND", "noninteractive"),
    )
}

/// Into an environment of its own, with the versions that the tests name.
fn install_python_packages() -> Result<()> {
    let requirements_path = run::root().join("tests/interop/requirements.txt");
    let requirements = fs::read_to_string(&requirements_path)
        .with_context(|| format!("cannot read {}", requirements_path.display()))?;
    // Written last: an interrupted installation is done again.
    let stamp = venv().join("installed-requirements.txt");
    if fs::read_to_string(&stamp).is_ok_and(|installed| installed == requirements) {
        println!("{} is up to date", venv().display());
        return Ok(());
    }
    run::check(
        run::command("python3")
            .args(["-m", "venv", "--clear"])
            .arg(venv()),
    )?;
    run::check(
        run::command(python())
            .args(["-m", "pip", "install", "--quiet"])
            .args(["--disable-pip-version-check", "--requirement"])
            .arg(&requirements_path),
    )?;
    fs::write(&stamp, requirements).with_context(|| format!("cannot write {}", stamp.display()))
}

/// Web clients, with the versions that the tests name.
fn install_node_packages() -> Result<()> {
    let source = run::root().join("tests/interop/web");
    let lock_path = source.join("package-lock.json");
    let lock = fs::read_to_string(&lock_path)
        .with_context(|| format!("cannot read {}", lock_path.display()))?;
    // Written last: an interrupted installation is done again.
    let stamp = web().join("installed-lock.json");
    if fs::read_to_string(&stamp).is_ok_and(|installed| installed == lock) {
        println!("{} is up to date", web().display());
        return Ok(());
    }
    fs::create_dir_all(web()).with_context(|| format!("cannot make {}", web().display()))?;
    for name in ["package.json", "package-lock.json"] {
        fs::copy(source.join(name), web().join(name))
            .with_context(|| format!("cannot copy {name} to {}", web().display()))?;
    }
    // What packages would run at their installation is not needed.
    run::check(
        run::command("npm")
            .args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"])
            .args(["--loglevel", "error", "--prefix"])
            .arg(web()),
    )?;
    fs::write(&stamp, lock).with_context(|| format!("cannot write {}", stamp.display()))
}
