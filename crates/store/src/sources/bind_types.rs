//! Types of bind columns as rows have them: the length of a text stands beside its type, as older programs know none.

use rekey_domain::BindType;

use crate::database::stored::Json;

/// In words of older programs.
pub(super) fn stored(types: &[BindType]) -> Vec<BindType> {
    let stored = |of: &BindType| match of {
        BindType::Varchar(_) => BindType::Text,
        of => *of,
    };
    types.iter().map(stored).collect()
}

/// What these words do not say.
pub(super) fn lengths(types: &[BindType]) -> Vec<Option<u32>> {
    let length = |of: &BindType| match of {
        BindType::Varchar(length) => Some(*length),
        _ => None,
    };
    types.iter().map(length).collect()
}

/// Both together. An older program that noted other types left the lengths as they were: they hold for texts only.
pub(super) fn read(
    types: Option<Json<Vec<BindType>>>,
    lengths: Option<Json<Vec<Option<u32>>>>,
) -> Option<Vec<BindType>> {
    let Json(types) = types?;
    let lengths = lengths.map_or_else(Vec::new, |Json(lengths)| lengths);
    let read = |(at, of): (usize, BindType)| match (of, lengths.get(at)) {
        (BindType::Text, Some(Some(length))) => BindType::Varchar(*length),
        (of, _) => of,
    };
    Some(types.into_iter().enumerate().map(read).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn older_programs_read_the_types_and_newer_ones_the_lengths_too() {
        use BindType::{Char, Int4, Text, Varchar};
        let types = vec![Int4, Varchar(5), Char(3), Text];
        let (old, lengths) = (stored(&types), lengths(&types));
        assert_eq!(old, [Int4, Text, Char(3), Text]);
        let again = read(Some(Json(old.clone())), Some(Json(lengths.clone())));
        assert_eq!(again, Some(types));
        assert_eq!(read(Some(Json(old.clone())), None), Some(old));
        // As an older program left it that noted another type.
        let retyped = vec![Int4, Int4, Char(3), Text];
        let read_again = read(Some(Json(retyped.clone())), Some(Json(lengths)));
        assert_eq!(read_again, Some(retyped));
        assert_eq!(read(None, None), None);
    }
}
