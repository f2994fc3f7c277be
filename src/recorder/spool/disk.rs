//! File operations of the spool. They may block for as long as the disk does.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// Runs `work` on a thread for blocking calls, so that a slow disk delays only the task that waits for it.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)
}

/// Deletes files. After an error it continues with the others, and returns the last error.
pub async fn delete(paths: Vec<PathBuf>) -> io::Result<()> {
    let delete = move || {
        let mut result = Ok(());
        for path in paths {
            if let Err(error) = fs::remove_file(path) {
                result = Err(error);
            }
        }
        result
    };
    blocking(delete).await?
}

/// Renames a file within its folder, and syncs the folder. Otherwise a power failure could undo the rename.
pub fn rename_durably(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)?;
    let folder = to.parent().unwrap_or(to);
    // The file has its new name, so an error must not make it an orphan under the old one.
    if let Err(error) = File::open(folder).and_then(|folder| folder.sync_all()) {
        tracing::warn!(error = %error.kind(), "a folder of the spool cannot be synced");
    }
    Ok(())
}
