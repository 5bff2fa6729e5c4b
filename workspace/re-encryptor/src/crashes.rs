//! A value that makes the database crash whenever it is read: a few times tell it from an outage.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use rekey_operations::OperationError;
use rekey_sources::SourceError;
use rekey_store::batches::Batch;
use uuid::Uuid;

/// So often in a row, and each time after the database had answered.
const MOST: u32 = 4;

/// Batches that this process lost its connection over, and how often in a row.
#[derive(Default)]
pub struct Crashes(Mutex<HashMap<Uuid, u32>>);

impl Crashes {
    /// Whether the last attempt at the batch lost its connection. Then the database is asked whether it is back before
    /// another is made: an outage is none of the batch's doing.
    pub fn had(&self, batch: &Batch) -> bool {
        self.counted(|counts| counts.contains_key(&batch.id))
    }

    /// What became of an attempt that began with an answer of the database.
    ///
    /// # Errors
    /// That of the attempt; [`SourceError::Damaged`] once too many in a row lost their connection.
    pub fn see<T>(
        &self,
        batch: &Batch,
        relation: &str,
        done: Result<T, OperationError>,
    ) -> Result<T, OperationError> {
        let Err(OperationError::Source(SourceError::OutOfReach { database, .. })) = &done else {
            self.counted(|counts| counts.remove(&batch.id));
            return done;
        };
        let times = self.counted(|counts| {
            let times = counts.entry(batch.id).or_default();
            *times += 1;
            *times
        });
        if times < MOST {
            return done;
        }
        self.counted(|counts| counts.remove(&batch.id));
        Err(OperationError::Source(SourceError::Damaged {
            database: database.clone(),
            relation: relation.to_owned(),
            reason: format!(
                "{times} times in a row the connection ended while {} of {} was worked on, and the server was there before and after: a damaged value, or code of the table's, can end it; the server's log says",
                batch.range(),
                batch.part(),
            ),
            code: "no SQLSTATE".to_owned(),
        }))
    }

    fn counted<T>(&self, count: impl FnOnce(&mut HashMap<Uuid, u32>) -> T) -> T {
        count(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
