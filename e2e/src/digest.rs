//! SHA-256 in hexadecimal.

use std::fmt::Write as _;
use std::path::Path;

/// Of bytes.
#[must_use]
pub fn of_bytes(bytes: &[u8]) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
    digest.as_ref().iter().fold(String::new(), |mut text, byte| {
        // Writing to a String can't fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Of the names and contents of files.
///
/// # Errors
/// One can't be read.
pub fn of_files(files: &[&Path]) -> std::io::Result<String> {
    let mut all = Vec::new();
    for file in files {
        let content = std::fs::read(file)?;
        all.extend_from_slice(file.file_name().unwrap_or_default().as_encoded_bytes());
        all.extend_from_slice(&(content.len() as u64).to_be_bytes());
        all.extend_from_slice(&content);
    }
    Ok(of_bytes(&all))
}
