//! Backups that are missing, stale, bad or out of reach, and bundles that no RECOVERY key opens.

use chrono::{DateTime, TimeDelta, Utc};
use rekey_domain::{AlertKind, BackupProblem, DestinationName, KeyName};
use rekey_store::{
    ConnectionTrait, StoreError, alerts,
    backups::{
        bundles::{self, Backup},
        checkpoints, deployments,
        destinations::{self, Destination},
        drills::{self, Drill},
    },
    keyrings::Keyring,
    keys::{self, Key},
};

use super::standing::{MINUTE, Standing};
use crate::backups::due::{Newest, is_backed_up, newest};

/// A key that was made is backed up and proved by itself within this time.
const FIRST_WITHIN: TimeDelta = TimeDelta::minutes(5);
/// Twice as long as drills are apart at most, with a budget that reaches each key in a day.
const STALE_AFTER: TimeDelta = TimeDelta::hours(48);
/// A destination that does not answer is waited for so long.
const AWAY_FOR: TimeDelta = TimeDelta::minutes(10);

/// What is known of a key at a destination.
struct Known<'a> {
    key: &'a Key,
    bundle: Option<&'a Backup>,
    last: Option<&'a Drill>,
    proved_at: Option<DateTime<Utc>>,
}

pub(super) async fn standing(
    db: &impl ConnectionTrait,
    keyrings: &[Keyring],
    now: DateTime<Utc>,
) -> Result<Vec<Standing>, StoreError> {
    let destinations = destinations::all(db).await?;
    let mut standing = Vec::new();
    if destinations.is_empty() {
        return Ok(standing);
    }
    let found = Found::all(db).await?;
    let mut keys = Vec::new();
    for keyring in keyrings {
        let of_keyring = keys::of_keyring(db, keyring.id).await?.into_iter();
        let kept = of_keyring.filter(|key| is_backed_up(key.state));
        keys.extend(kept.map(|key| (key.name(keyring), key)));
    }
    let known = |key, at| found.of(key, at);
    for destination in &destinations {
        let at = &destination.name;
        let unproved = keys
            .iter()
            .filter(|(_, key)| known(key, at).is_unproved(now));
        let unproved = u64::try_from(unproved.count()).unwrap_or(u64::MAX);
        if unproved > 0 {
            let failed = Standing::new(AlertKind::BackupFailed, format!("destination/{at}"));
            standing.push(failed.counting(unproved));
        }
    }
    standing.extend(waived(db, &destinations, &keys, &found).await?);
    let deployments = deployments::all(db).await?.into_iter();
    let bad = deployments
        .filter(|one| one.problem.is_some_and(BackupProblem::is_a_verdict))
        .count();
    if bad > 0 {
        let failed = Standing::new(AlertKind::BackupFailed, "deployment");
        standing.push(failed.counting(u64::try_from(bad).unwrap_or(u64::MAX)));
    }
    for (destination, problem, since) in checkpoints::failing(db).await? {
        // What is gone or altered is told at once; a place that is away is waited for.
        if problem.is_a_verdict() || since < now - AWAY_FOR {
            let subject = format!("checkpoints/{destination}");
            standing.push(Standing::new(AlertKind::BackupFailed, subject));
        }
    }
    let (mut open, mut sealed) = (0, 0);
    for (name, key) in &keys {
        let all = || destinations.iter().map(|one| known(key, &one.name));
        let bad_here = all().filter(Known::is_bad).count();
        if bad_here > 0 {
            let failed = Standing::new(AlertKind::BackupFailed, name);
            standing.push(failed.counting(u64::try_from(bad_here).unwrap_or(u64::MAX)));
        }
        let bundles: Vec<_> = all().filter_map(|one| one.bundle).collect();
        let recovers = bundles.iter().any(|bundle| bundle.recovery.is_some());
        open += u64::from(!bundles.is_empty() && !recovers);
        sealed += u64::from(recovers);
    }
    // While a new RECOVERY key is taken up, bundles follow one by one.
    if open > 0 {
        let none = Standing::new(AlertKind::NoRecoveryKey, "recovery").counting(open);
        standing.push(match sealed {
            0 => none,
            _ => none.after(MINUTE * 10),
        });
    }
    Ok(standing)
}

/// Keys that became primary in an emergency, and came back from nowhere yet. That is raised in the unit of the switch.
async fn waived(
    db: &impl ConnectionTrait,
    destinations: &[Destination],
    keys: &[(KeyName, Key)],
    found: &Found,
) -> Result<Vec<Standing>, StoreError> {
    let is_proved = |key: &Key| {
        let mut all = destinations.iter().map(|one| found.of(key, &one.name));
        all.any(|known| known.proved_at.is_some() && !known.is_bad())
    };
    let mut standing = Vec::new();
    for alert in alerts::raised(db).await? {
        let of_it = |(name, _): &&(KeyName, Key)| name.to_string() == alert.subject;
        let waived = alert.kind == AlertKind::BackupWaived;
        if waived
            && keys
                .iter()
                .find(of_it)
                .is_some_and(|(_, key)| !is_proved(key))
        {
            let still = Standing::new(AlertKind::BackupWaived, &alert.subject);
            standing.push(still.counting(alert.figure));
        }
    }
    Ok(standing)
}

/// The newest of each key at each destination.
struct Found {
    bundles: Newest<Backup>,
    drills: Newest<Drill>,
    proofs: Newest<Drill>,
}

impl Found {
    async fn all(db: &impl ConnectionTrait) -> Result<Self, StoreError> {
        let drills = drills::all(db).await?;
        let at = |drill: &Drill| (drill.key, drill.destination.clone());
        let proofs = drills.iter().filter(|drill| drill.problem.is_none());
        Ok(Self {
            proofs: newest(proofs.cloned().collect(), at),
            drills: newest(drills, at),
            bundles: newest(bundles::all(db).await?, |bundle| {
                (bundle.key, bundle.destination.clone())
            }),
        })
    }

    fn of<'a>(&'a self, key: &'a Key, at: &DestinationName) -> Known<'a> {
        let at = (key.id, at.clone());
        Known {
            key,
            bundle: self.bundles.get(&at),
            last: self.drills.get(&at),
            proved_at: self.proofs.get(&at).map(|drill| drill.last_at),
        }
    }
}

impl Known<'_> {
    /// A drill found that something is wrong with it.
    fn is_bad(&self) -> bool {
        let problem = self.last.and_then(|drill| drill.problem);
        problem.is_some_and(BackupProblem::is_a_verdict)
    }

    /// Nobody proved it for long, or nobody could.
    fn is_unproved(&self, now: DateTime<Utc>) -> bool {
        let since = self.proved_at.unwrap_or(self.key.created_at);
        let may_take = match self.proved_at {
            Some(_) => STALE_AFTER,
            None => FIRST_WITHIN,
        };
        let is_away = self.last.is_some_and(|drill| match drill.problem {
            Some(BackupProblem::OutOfReach) => drill.began_at < now - AWAY_FOR,
            Some(problem) => !problem.is_a_verdict(),
            None => false,
        });
        is_away || since < now - may_take
    }
}
