//! `cargo xtask package`: the Debian package, and its test on a booted Debian host.
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::run;

const USAGE: &str = "\
cargo xtask package [--debug]

Builds meerkat and meerkatctl and makes target/debian/meerkat_VERSION_ARCHITECTURE.deb of them. Installs cargo-deb into
target/tools if it is not there.

  --debug   of unoptimised programs, which are built faster: for tests, not for use";

/// What makes the package.
const CARGO_DEB: &str = "3.8.0";

/// What a host for the test has beside Debian's smallest system.
const HOST_PACKAGES: &str = "systemd,systemd-sysv,dbus,procps,sqlite3";

pub(crate) fn run(args: &[String]) -> Result<()> {
    if args.iter().any(|arg| arg == "--help") {
        println!("{USAGE}");
        return Ok(());
    }
    let profile = match args {
        [] => Profile::Release,
        [arg] if arg == "--debug" => Profile::Debug,
        _ => bail!("`cargo xtask package` takes no such arguments\n\n{USAGE}"),
    };
    let package = make(profile)?;
    println!("{}", package.display());
    Ok(())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Profile {
    Release,
    Debug,
}

impl Profile {
    /// As cargo calls it.
    fn name(self) -> &'static str {
        match self {
            Self::Release => "release",
            Self::Debug => "dev",
        }
    }

    /// Where cargo puts what it builds, below its own folder.
    fn folder(self) -> &'static str {
        match self {
            Self::Release => "release",
            Self::Debug => "debug",
        }
    }
}

/// Builds the programs and packs them.
fn make(profile: Profile) -> Result<PathBuf> {
    let cargo_deb = cargo_deb()?;
    let mut build = run::cargo();
    build.args(["build", "--locked", "--package", "server", "--bins"]);
    run::check(build.args(["--profile", profile.name()]))?;
    let programs = run::target_dir().join(profile.folder());
    let completion =
        run::output(run::command(programs.join("meerkatctl")).args(["completion", "bash"]))?;
    let file = programs.join("meerkatctl.bash");
    fs::write(&file, completion).with_context(|| format!("cannot write {}", file.display()))?;
    let folder = run::target_dir().join("debian");
    // An older version's package would lie beside the new one.
    if folder.exists() {
        fs::remove_dir_all(&folder)
            .with_context(|| format!("cannot empty {}", folder.display()))?;
    }
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    run::check(
        run::command(cargo_deb)
            .args(["--package", "server", "--locked", "--no-build"])
            .args(["--profile", profile.name(), "--output"])
            .arg(&folder),
    )?;
    let packages: Vec<PathBuf> = fs::read_dir(&folder)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|end| end == "deb"))
        .collect();
    match packages.as_slice() {
        [package] => Ok(package.clone()),
        _ => bail!("one package was to be made, there are {packages:?}"),
    }
}

/// The program, of the version that is named here, installed if need be.
fn cargo_deb() -> Result<PathBuf> {
    let tools = run::target_dir().join("tools");
    let program = tools.join("bin/cargo-deb");
    let is_there = program.is_file()
        && run::output(run::command(&program).arg("--version"))
            .is_ok_and(|version| version.split_whitespace().any(|word| word == CARGO_DEB));
    if !is_there {
        run::check(
            run::cargo()
                .args(["install", "cargo-deb", "--version", CARGO_DEB, "--locked"])
                .arg("--force")
                .arg("--root")
                .arg(&tools),
        )?;
    }
    Ok(program)
}

/// Installs, uses, upgrades, removes and purges the package on a Debian that is booted in namespaces of its own, with
/// systemd as its first process. Left out for those who are not root.
pub(crate) fn test() -> Result<()> {
    let id = run::output(run::command("id").arg("-u"))?;
    if id.trim() != "0" {
        println!("left out: a host is booted for this, and only root can");
        return Ok(());
    }
    let package = make(Profile::Debug)?;
    let root = host_root()?;
    run::check(
        run::command("tests/package/host")
            .arg(root)
            .arg(package)
            .arg(run::target_dir().join("host")),
    )
}

/// A Debian of the release that we build on, so that its libraries are those that the programs were linked with. Kept
/// from one run to the next; the test writes beside it.
fn host_root() -> Result<PathBuf> {
    let release = fs::read_to_string("/etc/os-release").context("which system is this?")?;
    let name = release
        .lines()
        .find_map(|line| line.strip_prefix("VERSION_CODENAME="))
        .context("/etc/os-release names no release of Debian")?;
    let root = run::target_dir().join(format!("host-{name}"));
    let made = root.with_extension("made");
    if fs::read_to_string(&made).is_ok_and(|packages| packages == HOST_PACKAGES) {
        return Ok(root);
    }
    remove(&root)?;
    if !run::succeeds(run::command("debootstrap").arg("--version")) {
        run::check(run::command("apt-get").args(["update", "--quiet"]))?;
        run::check(
            run::command("apt-get")
                .args(["install", "--yes", "--quiet", "--no-install-recommends"])
                .arg("debootstrap")
                .env("DEBIAN_FRONTEND", "noninteractive"),
        )?;
    }
    run::check(
        run::command("debootstrap")
            .args(["--variant=minbase", &format!("--include={HOST_PACKAGES}")])
            .arg(name)
            .arg(&root),
    )?;
    // Written last: an interrupted run is done again.
    fs::write(&made, HOST_PACKAGES).with_context(|| format!("cannot write {}", made.display()))?;
    Ok(root)
}

fn remove(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", folder.display()))
        }
        _ => Ok(()),
    }
}
