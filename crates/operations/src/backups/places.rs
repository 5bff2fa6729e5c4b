//! Where this process keeps bundles, and for which RECOVERY keys it seals: its own configuration, not the store's.

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use rekey_backups::Fingerprint;
use rekey_destinations::{Destination, DestinationError, DestinationUrl};
use rekey_domain::DestinationName;
use uuid::Uuid;

/// What a process's own configuration says of backups.
#[derive(Default)]
pub struct BackupPlaces {
    destinations: HashMap<DestinationName, DestinationUrl>,
    pins: Vec<Fingerprint>,
    pin_file: Option<PathBuf>,
    open: Mutex<HashMap<DestinationName, Arc<dyn Destination>>>,
    marks: Mutex<HashMap<DestinationName, Uuid>>,
}

impl BackupPlaces {
    /// These destinations, and RECOVERY keys that are trusted; `pin_file` names one more where there is such a file.
    pub fn new(
        destinations: HashMap<DestinationName, DestinationUrl>,
        pins: Vec<Fingerprint>,
        pin_file: Option<PathBuf>,
    ) -> Self {
        Self {
            destinations,
            pins,
            pin_file,
            open: Mutex::default(),
            marks: Mutex::default(),
        }
    }

    /// The destinations that this process can reach.
    pub fn names(&self) -> impl Iterator<Item = &DestinationName> {
        self.destinations.keys()
    }

    /// The destinations that this process can reach, and where each is.
    pub fn all(&self) -> impl Iterator<Item = (&DestinationName, &DestinationUrl)> {
        self.destinations.iter()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.destinations.is_empty()
    }

    /// Where a destination is, for people.
    pub fn url(&self, name: &DestinationName) -> Option<&DestinationUrl> {
        self.destinations.get(name)
    }

    /// The mark that this process has seen at a destination.
    pub(crate) fn mark_of(&self, name: &DestinationName) -> Option<Uuid> {
        let marks = self.marks.lock().unwrap_or_else(PoisonError::into_inner);
        marks.get(name).copied()
    }

    /// Notes that this process has seen the mark there.
    pub(crate) fn recognise(&self, name: &DestinationName, mark: Uuid) {
        let mut marks = self.marks.lock().unwrap_or_else(PoisonError::into_inner);
        marks.insert(name.clone(), mark);
    }

    /// A destination, opened once; none: this process was not told where it is.
    ///
    /// # Errors
    /// [`DestinationError::Configuration`] where it cannot be set up.
    pub fn open(
        &self,
        name: &DestinationName,
    ) -> Result<Option<Arc<dyn Destination>>, DestinationError> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = open.get(name) {
            return Ok(Some(known.clone()));
        }
        let Some(url) = self.destinations.get(name) else {
            return Ok(None);
        };
        let opened: Arc<dyn Destination> = rekey_destinations::open(url)?.into();
        open.insert(name.clone(), opened.clone());
        Ok(Some(opened))
    }

    /// The RECOVERY keys that this process seals for. Who could change the store alone cannot change these.
    pub fn pins(&self) -> Vec<Fingerprint> {
        let file = self.pin_file.as_ref().map(std::fs::read_to_string);
        let text = file.and_then(Result::ok).unwrap_or_default();
        let in_file = text
            .lines()
            .filter_map(|line| line.trim().parse::<Fingerprint>().ok());
        let mut pins = self.pins.clone();
        pins.extend(in_file);
        pins
    }
}
