//! A part that is not what it was is an error.

use rekey_domain::PartId;

use super::catalogue::Table;
use crate::SourceError;

/// Something else was read in place of a part.
pub(super) fn another(table: &Table) -> SourceError {
    SourceError::PartChanged {
        relation: table.place.relation.clone(),
        part: "a part".to_owned(),
    }
}

pub(super) fn changed(table: &Table, part: &PartId) -> SourceError {
    SourceError::PartChanged {
        relation: table.place.relation.clone(),
        part: part.name.clone(),
    }
}
