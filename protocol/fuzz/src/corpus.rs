//! The inputs kept on disk: one file each, named by what is in it.
use std::path::{Path, PathBuf};

/// All inputs of a directory, the shortest first.
pub(crate) fn load(directory: &Path) -> Vec<Vec<u8>> {
    let Ok(entries) = std::fs::read_dir(directory) else {
        return Vec::new();
    };
    let mut inputs: Vec<Vec<u8>> = entries
        .filter_map(|entry| std::fs::read(entry.ok()?.path()).ok())
        .collect();
    inputs.sort_by(|one, other| (one.len(), one).cmp(&(other.len(), other)));
    inputs
}

/// Makes the directory hold these inputs and no others.
pub(crate) fn keep(directory: &Path, inputs: &[Vec<u8>]) {
    std::fs::create_dir_all(directory).expect("the corpus can be made");
    let wanted: Vec<PathBuf> = inputs
        .iter()
        .map(|input| directory.join(name(input)))
        .collect();
    for (path, input) in wanted.iter().zip(inputs) {
        std::fs::write(path, input).expect("the corpus can be written");
    }
    for entry in std::fs::read_dir(directory).expect("the corpus can be read") {
        let path = entry.expect("the corpus can be read").path();
        if !wanted.contains(&path) {
            std::fs::remove_file(path).expect("the corpus can be changed");
        }
    }
}

/// Writes an input that crashed and tells where.
pub(crate) fn save_crash(target: &str, input: &[u8]) -> PathBuf {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("crashes");
    std::fs::create_dir_all(&directory).expect("there is room for crashes");
    let path = directory.join(format!("{target}-{}", name(input)));
    std::fs::write(&path, input).expect("there is room for crashes");
    path
}

/// FNV-1a: the same input has the same name everywhere.
fn name(input: &[u8]) -> String {
    let hash = input.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("{hash:016x}")
}
