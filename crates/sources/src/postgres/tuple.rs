//! A row version's place: a block and a number in it.

use sqlx::{Row, postgres::PgRow};

use crate::RowKey;

/// A `ctid`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct TupleId {
    pub(super) block: u32,
    pub(super) offset: u16,
}

impl TupleId {
    /// Reads what `tidsend` writes: block and number, big endian.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let (block, offset) = bytes.split_first_chunk()?;
        Some(Self {
            block: u32::from_be_bytes(*block),
            offset: u16::from_be_bytes(offset.try_into().ok()?),
        })
    }

    /// The place that a query gave as `tidsend` at this index.
    pub(super) fn read(row: &PgRow, at: usize) -> Result<Self, sqlx::Error> {
        let place = Self::parse(row.try_get(at)?);
        place.ok_or_else(|| sqlx::Error::Protocol("no place of a row".to_owned()))
    }

    /// The row there.
    pub(super) fn key(self) -> RowKey {
        RowKey::Tuple {
            block: self.block,
            offset: self.offset,
        }
    }

    /// The place of a row; None if it is another kind of source's.
    pub(super) fn of(key: &RowKey) -> Option<Self> {
        match key {
            RowKey::Tuple { block, offset } => Some(Self {
                block: *block,
                offset: *offset,
            }),
            RowKey::RowId(_) => None,
        }
    }

    /// A number that grows with the place.
    pub(super) fn cursor(self) -> i64 {
        i64::from(self.block) << 16 | i64::from(self.offset)
    }

    /// The place that such a number stands for; None if it is behind every place there can be.
    pub(super) fn from_cursor(cursor: i64) -> Option<Self> {
        Some(Self {
            block: u32::try_from(cursor >> 16).ok()?,
            offset: (cursor & 0xffff) as u16,
        })
    }

    /// The place as a literal.
    pub(super) fn sql(self) -> String {
        format!("'{self}'::pg_catalog.tid")
    }
}

impl std::fmt::Display for TupleId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "({},{})", self.block, self.offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_read_as_it_is_written_and_found_by_its_cursor() {
        for (block, offset) in [(0_u32, 0_u16), (7, 12), (u32::MAX, u16::MAX)] {
            let tuple = TupleId { block, offset };
            let bytes = [&block.to_be_bytes()[..], &offset.to_be_bytes()].concat();
            assert_eq!(TupleId::parse(&bytes), Some(tuple));
            assert_eq!(TupleId::from_cursor(tuple.cursor()), Some(tuple));
        }
        assert_eq!(TupleId::from_cursor(i64::MAX), None);
        assert_eq!(TupleId::from_cursor(-1), None);
        assert_eq!(TupleId::parse(b"(1,2)"), None);
    }
}
