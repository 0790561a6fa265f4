//! `quorate snapshot`.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use anyhow::{Context as _, Result};
use quorate_storage::backend::Table;
use quorate_storage::snapshot;

/// Checks every byte of a snapshot and prints what is inside.
///
/// # Errors
/// It can't be read, or is not whole.
pub fn status(path: &Path) -> Result<()> {
    let file = File::open(path).with_context(|| format!("can't open {}", path.display()))?;
    let size_bytes = file.metadata()?.len();
    let (mut keys, mut leases) = (0_u64, 0_u64);
    let info = snapshot::read(BufReader::new(file), |table, _, _| match table {
        Table::Newest => keys += 1,
        Table::Leases => leases += 1,
        Table::Meta | Table::History | Table::Changes | Table::LeaseKeys | Table::Auth => {}
    })
    .with_context(|| path.display().to_string())?;
    println!("cluster   {:x}", info.cluster_id);
    println!("member    {:x}", info.member_id);
    println!("revision  {}", info.revision);
    println!("keys      {keys}");
    println!("leases    {leases}");
    println!("bytes     {size_bytes}");
    println!("whole: all checksums are right");
    Ok(())
}
