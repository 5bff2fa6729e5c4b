//! Values in quarantine that a pass may find to open again: their bytes are looked for among all that opens.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
};

use rekey_domain::KeyId;
use rekey_sources::ValueId;
use rekey_store::{Store, StoreError, quarantine, rotations::Rotation};
use uuid::Uuid;

/// Rotations that are kept in mind.
const ROTATIONS: usize = 16;

/// The starts of such values, by their column.
pub type Starts = HashMap<Uuid, HashSet<String>>;

/// Those of each rotation's pass, looked up once. What comes into quarantine later is of the pass itself.
#[derive(Default)]
pub struct InQuarantine(Mutex<HashMap<Uuid, (i32, Arc<Starts>)>>);

impl InQuarantine {
    /// Those under these keys that the present pass has not met as closed.
    ///
    /// # Errors
    /// [`StoreError`] of the database.
    pub async fn of(
        &self,
        store: &Store,
        rotation: &Rotation,
        settled: &HashSet<KeyId>,
    ) -> Result<Arc<Starts>, StoreError> {
        if let Some(starts) = self.known(rotation) {
            return Ok(starts);
        }
        let mut starts = Starts::new();
        for (column, id) in quarantine::not_met_under(store.db(), rotation, settled).await? {
            if let Some(start) = ValueId::from(id).start() {
                starts.entry(column).or_default().insert(start.to_owned());
            }
        }
        let starts = Arc::new(starts);
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= ROTATIONS {
            known.clear();
        }
        known.insert(rotation.id, (rotation.pass, Arc::clone(&starts)));
        Ok(starts)
    }

    fn known(&self, rotation: &Rotation) -> Option<Arc<Starts>> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (pass, starts) = known.get(&rotation.id)?;
        (*pass == rotation.pass).then(|| Arc::clone(starts))
    }
}

/// As the store keeps them.
pub fn stored(opened: &[(Uuid, ValueId)]) -> Vec<(Uuid, String)> {
    let stored = |(column, id): &(Uuid, ValueId)| (*column, id.as_str().to_owned());
    opened.iter().map(stored).collect()
}
