//! Whether values open where they stand, as a rotation would open them: how many do, and why others do not.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use rekey_client::ClientError;
use rekey_domain::{
    BindValue, Finding, KeyId, KeyringName, Part, PartId, QuarantineReason, Range, TextEncoding,
};
use rekey_envelope::{Ciphertext, DataKey, associated_data, decode_base64};
use rekey_sources::{Measure, ReadColumn, ReadQuery, Source, SourceError, SourceRow, StoredValue};
use rekey_store::{columns::Protected, keyrings, keys};
use serde::Serialize;

use crate::{
    OperationError, Services,
    sources::look::{column_subject, of_error, patiently, table_subject},
};

/// Of more parts, as many from the first to the last are looked at.
const PARTS: usize = 16;
/// Places in a part, from its start to its end, and rows of each; of the first one more.
const PLACES: i64 = 8;
const ROWS: u32 = 50;
const FIRST_ROWS: u32 = 200;
/// Rows of a range where all are opened.
const RANGE_ROWS: u32 = 5_000;
/// Bytes of values in memory at once.
const BYTES: usize = 1 << 20;

/// What opening values of a column came to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Opening {
    /// Values that were tried.
    pub tried: u64,
    /// Whether these are all that the column has.
    pub all: bool,
    /// Those of them that open under their key and place.
    pub opened: u64,
    /// The others, by the reason for which a rotation would leave them in quarantine.
    pub not_opened: BTreeMap<QuarantineReason, u64>,
}

impl Opening {
    /// Values that a rotation could not move.
    pub fn not(&self) -> u64 {
        self.not_opened.values().sum()
    }

    /// How many of them for this reason.
    pub fn not_for(&self, reason: QuarantineReason) -> u64 {
        self.not_opened.get(&reason).copied().unwrap_or_default()
    }
}

/// A column to open values of, and what they are bound to.
pub(crate) struct ToOpen<'a> {
    pub(crate) column: &'a str,
    pub(crate) encoding: TextEncoding,
    pub(crate) bind_columns: &'a [String],
    pub(crate) keyring: &'a KeyringName,
    pub(crate) column_id: &'a str,
}

impl<'a> From<&'a Protected> for ToOpen<'a> {
    fn from(column: &'a Protected) -> Self {
        Self {
            column: &column.spec.name.column,
            encoding: column.spec.encoding,
            bind_columns: &column.spec.bind_columns,
            keyring: &column.spec.keyring,
            column_id: &column.spec.column_id,
        }
    }
}

/// What opening came to, column by column; where something stood in the way, as far as it came.
pub(crate) struct Opened {
    pub(crate) columns: Vec<Opening>,
    pub(crate) stopped: Option<OperationError>,
}

impl Opened {
    /// What of it a person has to know: values that do not open for one of these reasons, and what stood in
    /// the way.
    pub(crate) fn findings(
        &self,
        columns: &[&Protected],
        reasons: &[QuarantineReason],
    ) -> Vec<Finding> {
        let mut findings = Vec::new();
        for (column, opening) in columns.iter().zip(&self.columns) {
            let subject = column_subject(&column.spec.name);
            for reason in reasons
                .iter()
                .filter(|reason| opening.not_for(**reason) > 0)
            {
                let (values, tried) = (opening.not_for(*reason), opening.tried);
                let (meaning, helps) = (reason.meaning(), reason.what_helps());
                let problem = format!(
                    "{values} of {tried} value(s) that were tried do not open ({reason}): {meaning}. A rotation would put them in quarantine and leave them as they are: {helps}"
                );
                findings.push(Finding::person(&subject, problem));
            }
        }
        findings.extend(self.not_tried(columns));
        findings
    }

    fn not_tried(&self, columns: &[&Protected]) -> Option<Finding> {
        let why = self.stopped.as_ref()?;
        let tried: u64 = self.columns.iter().map(|opening| opening.tried).sum();
        let how_many = match tried {
            0 => "no value was tried to open".to_owned(),
            tried => format!("no more than {tried} value(s) were tried to open"),
        };
        let problem = format!("{how_many}: {why}");
        let subject = table_subject(columns.first()?);
        Some(match why {
            OperationError::Source(error) => of_error(subject, error, problem),
            _ => Finding::person(subject, problem),
        })
    }

    /// Whether not all was tried, as the application has something locked.
    pub(crate) fn waits_for_a_lock(&self) -> bool {
        let why = self.stopped.as_ref();
        matches!(why, Some(OperationError::Source(SourceError::Busy { .. })))
    }
}

/// Opens values of a table: some from all over it, or all of them. Reads only.
pub(crate) async fn open_values(
    services: &Services,
    source: &dyn Source,
    relation: &str,
    columns: &[ToOpen<'_>],
    how: Measure,
) -> Opened {
    let mut opener = Opener {
        services,
        source,
        columns,
        query: query(relation, columns),
        keys: HashMap::new(),
        openings: vec![Opening::default(); columns.len()],
        only: None,
    };
    let read = match how {
        Measure::Count => opener.all(relation).await,
        Measure::Estimate => opener.some(relation).await,
    };
    for opening in &mut opener.openings {
        opening.all = matches!(read, Ok(true));
    }
    Opened {
        columns: opener.openings,
        stopped: read.err(),
    }
}

/// How many values of a column open under this key alone, of the first `most` that are met under it. Reads only.
pub(crate) async fn opened_by(
    services: &Services,
    column: &Protected,
    key: &Arc<DataKey>,
    most: u64,
) -> Result<u64, OperationError> {
    let source = services.source(&column.source).await?;
    let relation = &column.table.relation;
    let columns = [ToOpen::from(column)];
    let known = ((columns[0].keyring, key.id()), Ok(key.clone()));
    let mut opener = Opener {
        services,
        source: &*source,
        columns: &columns,
        query: query(relation, &columns),
        keys: HashMap::from([known]),
        openings: vec![Opening::default()],
        only: Some((key.id(), most)),
    };
    opener.some(relation).await?;
    Ok(opener.openings[0].opened)
}

fn query(relation: &str, columns: &[ToOpen<'_>]) -> ReadQuery {
    let mut bind_columns: Vec<String> = Vec::new();
    for name in columns.iter().flat_map(|column| column.bind_columns) {
        if !bind_columns.contains(name) {
            bind_columns.push(name.clone());
        }
    }
    let read = columns.iter().map(|column| ReadColumn {
        name: column.column.to_owned(),
        encoding: column.encoding,
        settled: Vec::new(),
    });
    ReadQuery {
        relation: relation.to_owned(),
        part: PartId {
            name: String::new(),
            form: String::new(),
        },
        range: Range { first: 0, last: 0 },
        columns: read.collect(),
        bind_columns,
        // What is opened here is shown to a person, and proves nothing.
        trusts_code: true,
    }
}

/// A key, or why nothing under its id opens.
type Key = Result<Arc<DataKey>, QuarantineReason>;

struct Opener<'a> {
    services: &'a Services,
    source: &'a dyn Source,
    columns: &'a [ToOpen<'a>],
    query: ReadQuery,
    keys: HashMap<(&'a KeyringName, KeyId), Key>,
    openings: Vec<Opening>,
    /// Only values under this key are tried, and so many of a column.
    only: Option<(KeyId, u64)>,
}

impl<'a> Opener<'a> {
    async fn all(&mut self, relation: &str) -> Result<bool, OperationError> {
        for part in self.parts(relation).await? {
            let mut after = None;
            let next = |from| self.source.next_range(relation, &part, from, RANGE_ROWS);
            while let Some(range) = next(after).await? {
                after = Some(range.last);
                self.range(&part, range).await?;
            }
        }
        Ok(true)
    }

    async fn parts(&self, relation: &str) -> Result<Vec<Part>, SourceError> {
        patiently(self.source, relation, || self.source.parts(relation)).await
    }

    /// Whether some were all.
    async fn some(&mut self, relation: &str) -> Result<bool, OperationError> {
        let parts = self.parts(relation).await?;
        let (most, mut all) = (parts.len().min(PARTS), parts.len() <= PARTS);
        for at in 0..most {
            let of = at * (parts.len() - 1) / (most - 1).max(1);
            all &= self.places(relation, &parts[of]).await?;
        }
        Ok(all)
    }

    /// Places of a part, each behind the one before.
    async fn places(&mut self, relation: &str, part: &Part) -> Result<bool, OperationError> {
        let Some(end) = part.end else {
            return Ok(true);
        };
        let first = self.source.next_range(relation, part, None, FIRST_ROWS);
        let Some(first) = first.await? else {
            return Ok(true);
        };
        let (mut last, mut all) = (first.last, self.page(part, first).await?);
        for place in 0..PLACES {
            let after = place_in(first.last, end, place).max(last);
            all &= after == last;
            let range = self.source.next_range(relation, part, Some(after), ROWS);
            let Some(range) = range.await? else { break };
            last = range.last;
            all &= self.page(part, range).await?;
        }
        Ok(all && last >= end)
    }

    async fn range(&mut self, part: &Part, range: Range) -> Result<(), OperationError> {
        let mut after = None;
        loop {
            after = self.read(part, range, after).await?;
            if after.is_none() {
                return Ok(());
            }
        }
    }

    /// As much of a range as is read at once; whether that is all.
    async fn page(&mut self, part: &Part, range: Range) -> Result<bool, OperationError> {
        Ok(self.read(part, range, None).await?.is_none())
    }

    async fn read(
        &mut self,
        part: &Part,
        range: Range,
        after: Option<i64>,
    ) -> Result<Option<i64>, OperationError> {
        (self.query.part, self.query.range) = (part.id.clone(), range);
        let (source, query) = (self.source, &self.query);
        let page = || source.read(query, after, BYTES);
        let page = patiently(source, &query.relation, page).await?;
        for row in &page.rows {
            self.row(row).await?;
        }
        Ok(page.next)
    }

    async fn row(&mut self, row: &SourceRow) -> Result<(), OperationError> {
        for (at, stored) in row.values.iter().enumerate() {
            let Some(stored) = stored else { continue };
            if !self.is_tried(at, stored) {
                continue;
            }
            let why = self.why_not(&self.columns[at], row, stored).await?;
            let opening = &mut self.openings[at];
            opening.tried += 1;
            match why {
                None => opening.opened += 1,
                Some(reason) => *opening.not_opened.entry(reason).or_default() += 1,
            }
        }
        Ok(())
    }

    fn is_tried(&self, column: usize, stored: &StoredValue) -> bool {
        let Some((key, most)) = self.only else {
            return true;
        };
        let is_under = |bytes: &[u8]| {
            let parsed = Ciphertext::parse(bytes);
            parsed.is_ok_and(|ciphertext| ciphertext.key_id() == key)
        };
        let under = match stored {
            StoredValue::Bytes(bytes) => is_under(bytes),
            StoredValue::Text(text) => decode_base64(text).is_ok_and(|bytes| is_under(&bytes)),
            _ => false,
        };
        under && self.openings[column].tried < most
    }

    /// None: it opens.
    async fn why_not(
        &mut self,
        column: &'a ToOpen<'a>,
        row: &SourceRow,
        stored: &StoredValue,
    ) -> Result<Option<QuarantineReason>, OperationError> {
        let bytes = match stored {
            StoredValue::Unreadable(_) => return Ok(Some(QuarantineReason::Unreadable)),
            _ if row.binds_damaged.is_some() => return Ok(Some(QuarantineReason::Unreadable)),
            StoredValue::Bytes(bytes) => Some(bytes.clone()),
            StoredValue::Text(text) => decode_base64(text).ok(),
            StoredValue::Other => None,
        };
        let bytes = bytes.filter(|_| stored.fits(column.encoding));
        let ciphertext = bytes.as_deref().map(Ciphertext::parse);
        let Some(Ok(ciphertext)) = ciphertext else {
            return Ok(Some(QuarantineReason::NotCiphertext));
        };
        let key = match self.key(column.keyring, ciphertext.key_id()).await? {
            Ok(key) => key,
            Err(reason) => return Ok(Some(reason)),
        };
        let Some(binds) = self.binds(column, row) else {
            return Ok(Some(QuarantineReason::Unbound));
        };
        let place = associated_data(column.column_id, &binds);
        let opened = key.decrypt(&ciphertext, &place).is_ok();
        Ok((!opened).then_some(QuarantineReason::Unopened))
    }

    fn binds(&self, column: &ToOpen<'_>, row: &SourceRow) -> Option<Vec<BindValue>> {
        let bind = |name: &String| -> Option<BindValue> {
            let mut names = self.query.bind_columns.iter();
            row.binds[names.position(|one| one == name)?].clone()
        };
        column.bind_columns.iter().map(bind).collect()
    }

    async fn key(&mut self, keyring: &'a KeyringName, id: KeyId) -> Result<Key, OperationError> {
        if let Some(key) = self.keys.get(&(keyring, id)) {
            return Ok(key.clone());
        }
        let key = match self.services.client.decryption_key(keyring, id).await {
            Ok(key) => Ok(key),
            Err(ClientError::UnknownKey { .. }) => Err(self.why_no_key(keyring, id).await?),
            Err(error) => return Err(error.into()),
        };
        self.keys.insert((keyring, id), key.clone());
        Ok(key)
    }

    async fn why_no_key(
        &self,
        keyring: &KeyringName,
        id: KeyId,
    ) -> Result<QuarantineReason, OperationError> {
        let db = self.services.store.db();
        let Some(key) = keys::find(db, id).await? else {
            return Ok(QuarantineReason::MissingKey);
        };
        let of = keyrings::by_id(db, key.keyring_id).await?.name;
        Ok(match of == *keyring {
            false => QuarantineReason::OtherKeyring,
            true if key.activated_at.is_none() => QuarantineReason::NeverActive,
            true if key.closed_at.is_some() => QuarantineReason::WrittenAfterCompromise,
            true => QuarantineReason::MissingKey,
        })
    }
}

/// So far from `first` to before `end`: the last place is the end itself.
fn place_in(first: i64, end: i64, place: i64) -> i64 {
    let span = i128::from(end) - 1 - i128::from(first);
    let at = i128::from(first) + span * i128::from(place) / i128::from(PLACES - 1);
    i64::try_from(at).unwrap_or(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_go_from_the_first_rows_to_the_last_one() {
        for (first, end) in [(199, 10_000), (199, 199), (i64::MIN, i64::MAX)] {
            let places: Vec<_> = (0..PLACES).map(|at| place_in(first, end, at)).collect();
            assert_eq!((places[0], places[7]), (first, end - 1));
        }
    }
}
