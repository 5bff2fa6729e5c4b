//! A report of a key notes what stood under it.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// How many values a census last found under a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exposure {
    /// Values.
    pub values: u64,
    /// When they were counted.
    pub counted_at: DateTime<Utc>,
}
