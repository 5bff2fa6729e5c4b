//! Names of files below a folder.

use std::{fs, path::Path};

use super::files::{self, Problem};
use crate::{Folder, ObjectName, Page, name::is_part, page::Gathering};

/// A page of names. What is no file of ours is left out: links, and files on their way.
pub(super) fn page(
    root: &Path,
    folder: &Folder,
    after: Option<&ObjectName>,
) -> Result<Page, Problem> {
    files::find_root(root)?;
    let mut gathering = Gathering::new(folder, after);
    let mut path = root.to_owned();
    for part in folder.as_str().split('/') {
        path.push(part);
        let Some(found) = files::is_there(&path)? else {
            return Ok(gathering.page());
        };
        files::check_directory(Some(part), found)?;
    }
    gather(&path, folder.as_str(), &mut gathering)?;
    Ok(gathering.page())
}

/// Ends, as a name that is too deep is none of ours and the folders of names alone are looked into.
fn gather(path: &Path, name: &str, gathering: &mut Gathering<'_>) -> Result<(), Problem> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        let part = entry.file_name();
        let Some(part) = part.to_str().filter(|part| is_part(part)) else {
            continue;
        };
        let name = format!("{name}/{part}");
        let found = entry.file_type()?;
        if let (true, Ok(name)) = (found.is_file(), name.parse()) {
            gathering.take(name);
        }
        if found.is_dir() && name.parse::<Folder>().is_ok() {
            gather(&entry.path(), &name, gathering)?;
        }
    }
    Ok(())
}
