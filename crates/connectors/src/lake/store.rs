//! The local file system as an object store that means it: what a `put` or a finished upload has reported survives a
//! power cut, whole.
//!
//! `object_store`'s own local store leaves both the file and its directory entry to the page cache. Here a put writes
//! a temporary file, syncs it, links it under its name (so that `Create` never overwrites) and syncs the directory;
//! directories that appear on the way are synced in their parents. Reading and listing are `object_store`'s.

use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path as FsPath, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use futures::FutureExt;
use futures::stream::BoxStream;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMode,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, UploadPart,
};
use parking_lot::Mutex;

/// Directories remembered as durable before the memory of them is dropped.
const KNOWN_DIRECTORIES: usize = 10_000;

#[derive(Debug)]
pub(super) struct DurableLocal {
    inner: LocalFileSystem,
    directories: Arc<Directories>,
}

impl DurableLocal {
    /// Paths are absolute, as a URL `file:///…` has them. Directories below `root` are created when needed.
    pub(super) fn new(root: PathBuf) -> Self {
        Self { inner: LocalFileSystem::new(), directories: Arc::new(Directories { root, durable: Mutex::default() }) }
    }
}

impl std::fmt::Display for DurableLocal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "DurableLocal({})", self.directories.root.display())
    }
}

#[async_trait]
impl ObjectStore for DurableLocal {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        let overwrite = match opts.mode {
            PutMode::Overwrite => true,
            PutMode::Create => false,
            PutMode::Update(_) => {
                return Err(Error::NotImplemented {
                    operation: "conditional update".into(),
                    implementer: self.to_string(),
                });
            }
        };
        let (path, directories) = (self.inner.path_to_filesystem(location)?, self.directories.clone());
        let put = move || directories.put(&path, &payload, overwrite);
        blocking(location, put).await?;
        Ok(PutResult { e_tag: None, version: None })
    }

    async fn put_multipart_opts(&self, location: &Path, _: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        let (path, directories) = (self.inner.path_to_filesystem(location)?, self.directories.clone());
        let create = {
            let path = path.clone();
            move || {
                directories.create(parent(&path)?)?;
                OpenOptions::new().write(true).create_new(true).open(&path)
            }
        };
        let file = Arc::new(Mutex::new(blocking(location, create).await?));
        Ok(Box::new(LocalUpload { location: location.clone(), path, file, directories: self.directories.clone() }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.inner.get_opts(location, options).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

/// A file written part by part under its own name: a data file is nobody's business until a commit names it.
#[derive(Debug)]
struct LocalUpload {
    location: Path,
    path: PathBuf,
    file: Arc<Mutex<File>>,
    directories: Arc<Directories>,
}

#[async_trait]
impl MultipartUpload for LocalUpload {
    /// Parts are written in the order in which they are awaited.
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let (file, location) = (self.file.clone(), self.location.clone());
        async move { blocking(&location, move || data.iter().try_for_each(|bytes| file.lock().write_all(bytes))).await }
            .boxed()
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let (file, path, directories) = (self.file.clone(), self.path.clone(), self.directories.clone());
        let sync = move || {
            file.lock().sync_all()?;
            directories.sync(parent(&path)?)
        };
        blocking(&self.location, sync).await?;
        Ok(PutResult { e_tag: None, version: None })
    }

    async fn abort(&mut self) -> Result<()> {
        let path = self.path.clone();
        blocking(&self.location, move || std::fs::remove_file(path)).await
    }
}

#[derive(Debug)]
struct Directories {
    root: PathBuf,
    /// Those whose entry in their parent this process has synced.
    durable: Mutex<HashSet<PathBuf>>,
}

impl Directories {
    fn put(&self, path: &FsPath, payload: &PutPayload, overwrite: bool) -> io::Result<()> {
        let directory = parent(path)?;
        self.create(directory)?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let temporary = directory.join(format!(".{}.{name}.tmp", uuid::Uuid::new_v4().simple()));
        let write = || {
            let mut file = OpenOptions::new().write(true).create_new(true).open(&temporary)?;
            payload.iter().try_for_each(|bytes| file.write_all(bytes))?;
            file.sync_all()?;
            if overwrite { std::fs::rename(&temporary, path) } else { std::fs::hard_link(&temporary, path) }
        };
        let written = write();
        if !overwrite || written.is_err() {
            // A leftover is harmless: its name is nobody's, and opening the table removes it.
            let _ = std::fs::remove_file(&temporary);
        }
        written?;
        self.sync(directory)
    }

    /// Creates `directory` and those above it, down from the root, each durable in its parent. One that is there may
    /// still be in the page cache only, left so by a killed process: the first use by this process syncs it.
    fn create(&self, directory: &FsPath) -> io::Result<()> {
        if self.durable.lock().contains(directory) {
            return Ok(());
        }
        let above = parent(directory)?;
        if directory.starts_with(&self.root) && directory != self.root {
            self.create(above)?;
        } else {
            std::fs::create_dir_all(above)?;
        }
        match std::fs::create_dir(directory) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => self.sync(above)?,
        }
        let mut durable = self.durable.lock();
        if durable.len() >= KNOWN_DIRECTORIES {
            durable.clear();
        }
        durable.insert(directory.to_owned());
        Ok(())
    }

    /// Makes the entries of a directory durable. Only Unix has a way to say so.
    fn sync(&self, directory: &FsPath) -> io::Result<()> {
        if cfg!(unix) { File::open(directory)?.sync_all() } else { Ok(()) }
    }
}

fn parent(path: &FsPath) -> io::Result<&FsPath> {
    path.parent().ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "a path without a directory"))
}

async fn blocking<T: Send + 'static>(
    location: &Path,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T> {
    let path = location.to_string();
    match tokio::task::spawn_blocking(work).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(source)) if source.kind() == io::ErrorKind::AlreadyExists => {
            Err(Error::AlreadyExists { path, source: source.into() })
        }
        Ok(Err(source)) if source.kind() == io::ErrorKind::NotFound => {
            Err(Error::NotFound { path, source: source.into() })
        }
        Ok(Err(source)) => Err(Error::Generic { store: "DurableLocal", source: source.into() }),
        Err(source) => Err(Error::JoinError { source }),
    }
}

#[cfg(test)]
mod tests {
    use object_store::ObjectStoreExt;

    use super::*;

    #[tokio::test]
    async fn create_never_overwrites_and_leaves_no_temporary_file() {
        let root = tempfile::tempdir().expect("a directory");
        let store = DurableLocal::new(root.path().join("lake"));
        let file = root.path().join("lake/table/_delta_log/0.json");
        let location = Path::from_absolute_path(&file).expect("absolute");
        let create = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        store.put_opts(&location, "one".into(), create.clone()).await.expect("first");
        let second = store.put_opts(&location, "two".into(), create).await;
        assert!(matches!(second, Err(Error::AlreadyExists { .. })), "{second:?}");
        assert_eq!(std::fs::read(&file).expect("there"), b"one");
        store.put(&location, "three".into()).await.expect("overwrite");
        assert_eq!(std::fs::read(&file).expect("there"), b"three");
        assert_eq!(std::fs::read_dir(file.parent().expect("in a directory")).expect("listed").count(), 1);
    }

    #[tokio::test]
    async fn an_upload_has_all_its_parts() {
        let root = tempfile::tempdir().expect("a directory");
        let store = DurableLocal::new(root.path().to_owned());
        let file = root.path().join("t/date=2025-01-01/part.parquet");
        let mut upload =
            store.put_multipart(&Path::from_absolute_path(&file).expect("absolute")).await.expect("started");
        for part in ["a", "b", "c"] {
            upload.put_part(part.into()).await.expect("written");
        }
        upload.complete().await.expect("completed");
        assert_eq!(std::fs::read(&file).expect("there"), b"abc");
    }
}
