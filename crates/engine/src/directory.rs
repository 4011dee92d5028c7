//! Directories that survive a power cut.

use std::io;
use std::path::Path;

use playhouse_log::disk::Disk;

/// Creates a directory and its missing ancestors, and makes their entries durable.
pub(crate) fn create(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    let missing: Vec<&Path> = path.ancestors().take_while(|ancestor| !disk.exists(ancestor)).collect();
    disk.create_dir_all(path)?;
    for created in missing.into_iter().rev() {
        if let Some(parent) = created.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            disk.sync_dir(parent)?;
        }
    }
    Ok(())
}
