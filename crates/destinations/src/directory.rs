//! Objects as files of a directory: whole or not there, and through to the disk.

mod files;
mod listing;
mod staging;

use std::{
    path::{Path, PathBuf},
    time::SystemTime,
};

use async_trait::async_trait;
use tokio::task::spawn_blocking;

use crate::{
    Created, Destination, DestinationError, Doing, Erasable, Folder, MAX_LEN, ObjectName, Page,
    Prune,
    create::{check_len, compare, in_time},
};
use files::Problem;

/// A directory. It is made at the first object, if the one above it is there; its files are their owner's alone.
///
/// No symbolic link is followed in it, nor in its place. What stands there can be erased by whoever writes it.
#[derive(Debug, Clone)]
pub struct Directory {
    root: PathBuf,
}

impl Directory {
    /// The directory at `root`. Looks at nothing yet.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// Runs `work` where it may block, and says in its error where that was.
    async fn run<T: Send + 'static>(
        &self,
        doing: Doing,
        work: impl FnOnce(&Path) -> Result<T, Problem> + Send + 'static,
    ) -> Result<T, DestinationError> {
        let (place, root) = (self.place(), self.root.clone());
        // Past its time it goes on unheard: nobody can end a call of the operating system.
        let done = async {
            let joined = spawn_blocking(move || work(&root)).await;
            // It ends without a result only when the process shuts down.
            let ended = |_| Problem::Io(std::io::ErrorKind::Interrupted);
            let worked = joined.map_err(ended).and_then(|worked| worked);
            worked.map_err(|problem| problem.at(self.place(), doing))
        };
        in_time(&place, done).await
    }
}

#[async_trait]
impl Destination for Directory {
    fn place(&self) -> String {
        format!("file://{}", self.root.display())
    }

    async fn create(&self, name: &ObjectName, bytes: &[u8]) -> Result<Created, DestinationError> {
        check_len(&self.place(), name, bytes)?;
        let (to, new) = (name.clone(), bytes.to_vec());
        let work = move |root: &Path| {
            let created = create(root, &to, &new)?;
            Ok((created, files::read(root, &to)?))
        };
        let (created, found) = self.run(Doing::Create, work).await?;
        compare(&self.place(), name, bytes, &found)?;
        Ok(created)
    }

    async fn read(&self, name: &ObjectName) -> Result<Vec<u8>, DestinationError> {
        let from = name.clone();
        self.run(Doing::Read, move |root| files::read(root, &from))
            .await
    }

    async fn list(
        &self,
        folder: &Folder,
        after: Option<&ObjectName>,
    ) -> Result<Page, DestinationError> {
        let (folder, after) = (folder.clone(), after.cloned());
        let work = move |root: &Path| listing::page(root, &folder, after.as_ref());
        self.run(Doing::List, work).await
    }

    async fn erasable(&self) -> Result<Erasable, DestinationError> {
        Ok(Erasable::Yes)
    }
}

#[async_trait]
impl Prune for Directory {
    async fn remove(&self, name: &ObjectName) -> Result<(), DestinationError> {
        let name = name.clone();
        self.run(Doing::Remove, move |root| files::remove(root, &name))
            .await
    }

    async fn made_at(&self, name: &ObjectName) -> Result<Option<SystemTime>, DestinationError> {
        let name = name.clone();
        self.run(Doing::Read, move |root| files::made_at(root, &name))
            .await
    }
}

fn create(root: &Path, name: &ObjectName, bytes: &[u8]) -> Result<Created, Problem> {
    debug_assert!(bytes.len() <= MAX_LEN);
    files::make_directory(root, None)?;
    let path = files::make_folders(root, name)?;
    let staged = staging::Staged::write(root, bytes)?;
    let created = staged.publish(&path)?;
    // Always, as who made it before, or its folders, may have died before this.
    for made in path.ancestors().take_while(|above| *above != root) {
        files::sync_directory(made)?;
    }
    Ok(created)
}
