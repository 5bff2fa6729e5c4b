//! A report of a key notes what stood under it.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// How many values a census last found under a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exposure {
    /// Values.
    pub values: u64,
    /// When they were counted; where a later sweep counted some columns anew, when it did.
    pub counted_at: DateTime<Utc>,
    /// Then, the earliest time at which another of them was last counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counted_from: Option<DateTime<Utc>>,
}
