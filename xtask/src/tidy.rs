//! `cargo xtask tidy`: the house rules that a compiler does not know. `cargo test` runs them too.
//!
//! Each rule is a pure function from text to findings; this file reads the repository and calls them.
mod arrows;
mod deps;
mod files;
mod logs;
mod source;

use std::fmt;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::run;

/// One breach of a rule, with the place to mend it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    /// File, from the root.
    file: String,
    /// Line from 1; 0 if the file as a whole is meant.
    line: usize,
    message: String,
}

impl Finding {
    fn new(file: &str, line: usize, message: impl Into<String>) -> Self {
        Self {
            file: file.to_owned(),
            line,
            message: message.into(),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.file, self.message),
            line => write!(f, "{}:{line}: {}", self.file, self.message),
        }
    }
}

/// A file of the repository.
struct SourceFile {
    /// Path from the root.
    path: String,
    text: String,
}

pub(crate) fn run(args: &[String]) -> Result<()> {
    if !args.is_empty() {
        bail!("`cargo xtask tidy` takes no arguments");
    }
    check_repository()
}

/// Fails with every finding, one per line.
pub(crate) fn check_repository() -> Result<()> {
    let findings = findings()?;
    for finding in &findings {
        eprintln!("{finding}");
    }
    match findings.len() {
        0 => Ok(()),
        count => bail!("{count} breach(es) of the house rules (STYLE.md says why they are there)"),
    }
}

fn findings() -> Result<Vec<Finding>> {
    let files = read_files()?;
    let registry = read("server/src/modules.rs")?;
    let features = files::registered_modules(&registry);
    let mut findings = Vec::new();
    for file in files.iter().filter(|file| file.path.ends_with(".rs")) {
        findings.extend(source::check(&file.path, &file.text, &features));
        findings.extend(logs::check(&file.path, &file.text));
        findings.extend(arrows::check_module(&file.path, &file.text));
    }
    for file in &files {
        findings.extend(files::check_text(&file.path, &file.text));
    }
    let paths: Vec<&str> = files.iter().map(|file| file.path.as_str()).collect();
    findings.extend(files::check_companions(&paths, &registry));
    let tree = run::output(run::cargo().args([
        "tree",
        "--locked",
        "--workspace",
        "--depth",
        "1",
        "--edges",
        "normal,build",
        "--prefix",
        "depth",
        "--format",
        " {p}",
    ]))?;
    findings.extend(arrows::check_crates(&tree));
    findings.extend(deps::check(&read("Cargo.lock")?, &read("deny.toml")?));
    Ok(findings)
}

fn read(path: &str) -> Result<String> {
    fs::read_to_string(run::root().join(path)).with_context(|| format!("cannot read {path}"))
}

/// Every text file that git knows or would take up. Others (corpora, images) are left out.
fn read_files() -> Result<Vec<SourceFile>> {
    let list = run::output(run::command("git").args([
        "ls-files",
        "-z",
        "--cached",
        "--others",
        "--exclude-standard",
    ]))?;
    let mut files = Vec::new();
    for path in list.split('\0').filter(|path| !path.is_empty()) {
        let full_path = run::root().join(path);
        // A file that is deleted but still in the index is no file.
        if !Path::new(&full_path).is_file() {
            continue;
        }
        if let Ok(text) = fs::read_to_string(&full_path) {
            files.push(SourceFile {
                path: path.to_owned(),
                text,
            });
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_repository_keeps_its_house_rules() {
        let findings: Vec<String> = super::findings()
            .unwrap()
            .iter()
            .map(ToString::to_string)
            .collect();
        assert!(findings.is_empty(), "\n{}", findings.join("\n"));
    }
}
