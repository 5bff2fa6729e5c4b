//! A look at a keyring's values: which are below its primary key, and which under keys that this store never had.

use std::collections::{BTreeMap, HashMap, HashSet};

use rekey_domain::{
    ColumnName, Figures, Found, KeyId, KeyState, RotationState, goes_over_all,
    quarantine_stands_out,
};
use rekey_sources::ValueId;
use rekey_store::{
    ConnectionTrait, StoreError,
    columns::{self, Protected},
    keyrings::{self, Keyring},
    keys::{self, Key},
    quarantine,
    rotations::{self, Rotation},
    stragglers,
};
use uuid::Uuid;

use crate::{
    CensusRow, OperationError, PassToProve, Services, census_of_columns, sources::look::key_names,
};

/// Key ids that are named; of more a person asks the census.
const NAMED: usize = 3;

/// Values by the column's id and the key.
pub type ByKey = Figures<(Uuid, KeyId)>;

/// What a look found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stragglers {
    /// Values under keys that were primary before.
    pub below: ByKey,
    /// Those of them that are in quarantine, wherever they are now.
    pub in_quarantine: ByKey,
    /// Their columns.
    pub columns: Vec<ColumnName>,
    /// Where much is under keys that this store never had: how much, in words.
    pub unknown_keys: Option<String>,
}

impl Stragglers {
    /// How many values are below the primary key.
    pub fn values(&self) -> u64 {
        self.below.values().sum()
    }
}

/// Counts the values of a keyring's columns, and sees in the same moment which of them are in quarantine.
///
/// # Errors
/// As [`census`](crate::census()).
pub async fn look_for_stragglers(
    services: &Services,
    keyring: &Keyring,
) -> Result<Stragglers, OperationError> {
    let db = services.store.db();
    let mut columns = columns::of_keyring(db, keyring.id).await?;
    let keys = keys::of_keyring(db, keyring.id).await?;
    let is_below = |key: &Key| {
        let replaced = matches!(key.state, KeyState::Inactive | KeyState::Compromised);
        replaced && key.activated_at.is_some()
    };
    let (below, settled): (Vec<_>, Vec<_>) = keys.iter().partition(|key| is_below(key));
    let below: HashSet<_> = below.into_iter().map(|key| key.id).collect();
    let known = in_quarantine(services, &columns, &below).await?;
    let pass = PassToProve {
        settled: settled.into_iter().map(|key| key.id).collect(),
        not_met: known
            .iter()
            .map(|(id, of)| (*id, of.keys().cloned().collect()))
            .collect(),
        ..PassToProve::default()
    };
    let counted = census_of_columns(services, &columns, Some(&pass)).await?;
    let rows = counted.iter().filter_map(|row| match row.found {
        Found::Key(key) if below.contains(&key) => Some(((row.column_id, key), row.rows)),
        _ => None,
    });
    let found = rows.collect::<ByKey>();
    columns.retain(|column| found.keys().any(|(id, _)| *id == column.id));
    Ok(Stragglers {
        below: found,
        in_quarantine: seen(&counted, &known),
        columns: columns.into_iter().map(|column| column.spec.name).collect(),
        unknown_keys: unknown_keys(services, &counted).await?,
    })
}

/// Values in quarantine under certain keys: by the column's id, the start of each, its key, and how many have it.
type Known = HashMap<Uuid, HashMap<String, (KeyId, u64)>>;

async fn in_quarantine(
    services: &Services,
    columns: &[Protected],
    under: &HashSet<KeyId>,
) -> Result<Known, OperationError> {
    let mut known = Known::new();
    for column in columns {
        let left = quarantine::of_column(services.store.db(), column.id).await?;
        let of_column = known.entry(column.id).or_default();
        for value in left {
            let key = value.found();
            let id = ValueId::from(value.row_key);
            let (Some(key), Some(start)) = (key, id.start()) else {
                continue;
            };
            if under.contains(&key) {
                of_column.entry(start.to_owned()).or_insert((key, 0)).1 += 1;
            }
        }
    }
    Ok(known)
}

/// How many of the known values a census saw.
fn seen(counted: &[CensusRow], known: &Known) -> ByKey {
    let mut seen = ByKey::new();
    let mut columns = HashSet::new();
    for row in counted.iter().filter(|row| columns.insert(row.column_id)) {
        let known = known.get(&row.column_id);
        for (start, times) in &*row.standing {
            // The application may have copied a value in quarantine to a place where it opens.
            if let Some((key, known)) = known.and_then(|known| known.get(start)) {
                *seen.entry((row.column_id, *key)).or_default() += (*times).min(*known);
            }
        }
    }
    seen
}

/// Whether what a look found is being moved, or was since: a rotation went over all of it to its end.
pub(crate) async fn is_done_with(
    db: &impl ConnectionTrait,
    look: &stragglers::Look,
) -> Result<bool, StoreError> {
    let rotations = rotations::of_keyring(db, look.keyring_id).await?;
    let is_done = |one: &Rotation| match one.state {
        RotationState::Completed => one.ended_at.is_some_and(|ended| ended > look.looked_at),
        state => state.is_live() && !one.paused,
    };
    let goes_over = |one: &Rotation| goes_over_all(one.sweep_columns.as_deref(), look.columns());
    Ok(rotations.iter().any(|one| is_done(one) && goes_over(one)))
}

/// What the latest looks found for a person: values under unknown keys, or that looks have failed for long.
pub(crate) async fn problems(services: &Services) -> Result<Vec<String>, OperationError> {
    let db = services.store.db();
    let now = services.store.now().await?;
    let mut problems = Vec::new();
    for look in stragglers::all(db).await? {
        let keyring = keyrings::by_id(db, look.keyring_id).await?;
        let name = &keyring.name;
        // Old findings are no news if nobody looks any more.
        let Some(every) = keyring.policy.straggler_look else {
            continue;
        };
        let unknown_keys = match is_done_with(db, &look).await? {
            true => None,
            false => look.unknown_keys,
        };
        problems.extend(unknown_keys.map(|what| {
            format!(
                "keyring {name}: {what}; a rotation puts them in quarantine where a person says so"
            )
        }));
        let long_ago = (now - look.looked_at)
            .to_std()
            .is_ok_and(|ago| ago > every * 2);
        let why = look.failure.filter(|_| long_ago);
        problems.extend(why.map(|why| {
            format!(
                "keyring {name}: its values were not looked at for stragglers since {} ({why})",
                look.looked_at.format("%F %T UTC")
            )
        }));
    }
    Ok(problems)
}

/// How many values of a column are under keys that this store never had, in words, if they are so many that there must
/// be one cause. Keys of the store's other keyrings count as known.
///
/// # Errors
/// [`OperationError::Store`].
pub async fn unknown_keys(
    services: &Services,
    counted: &[CensusRow],
) -> Result<Option<String>, OperationError> {
    let ours = key_names(services).await?;
    let mut columns: BTreeMap<&ColumnName, Met> = BTreeMap::new();
    for row in counted {
        let met = columns.entry(&row.column).or_default();
        met.values += row.rows;
        if let Found::Key(key) = row.found
            && !ours.contains_key(&key)
        {
            met.unknown.push((row.rows, key));
        }
    }
    let stands_out = |met: &Met| quarantine_stands_out(met.values, met.unknown_values());
    let found = columns.into_iter().find(|(_, met)| stands_out(met));
    Ok(found.map(|(column, met)| say(column, met)))
}

/// What a census met of a column.
#[derive(Default)]
struct Met {
    values: u64,
    /// Those under keys that are not the store's, key by key.
    unknown: Vec<(u64, KeyId)>,
}

impl Met {
    fn unknown_values(&self) -> u64 {
        self.unknown.iter().map(|(values, _)| values).sum()
    }
}

fn say(column: &ColumnName, mut met: Met) -> String {
    let (values, all) = (met.unknown_values(), met.values);
    met.unknown.sort_unstable_by(|one, other| other.cmp(one));
    let more = if met.unknown.len() > NAMED {
        ", …"
    } else {
        ""
    };
    let keys = met.unknown.iter().take(NAMED);
    let keys: Vec<_> = keys.map(|(_, key)| key.to_string()).collect();
    let keys = keys.join(", ");
    format!(
        "{values} of the {all} values of {column} are under keys that this store never had ({keys}{more}): the store is from a backup, or another deployment rotates the same source, or the source is not the one that was meant"
    )
}
