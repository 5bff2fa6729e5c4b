//! What workers that work do not reach. Whoever writes signs of life may name anything, so only what the store knows is told.

use std::collections::BTreeSet;

use rekey_domain::AlertKind;
use rekey_store::{ConnectionTrait, StoreError, columns, heartbeats};

use super::standing::{MINUTE, Standing};
use crate::work::workers::WorkerView;

pub(super) async fn standing(
    db: &impl ConnectionTrait,
    workers: &[WorkerView],
) -> Result<Vec<Standing>, StoreError> {
    let (beats, _) = heartbeats::all(db).await?;
    let beating = beats.into_iter().filter(|beat| {
        let is_it = |view: &WorkerView| view.place == beat.place && view.worker == beat.worker;
        workers.iter().any(|view| !view.silent && is_it(view))
    });
    let misses: Vec<_> = beating.filter_map(|beat| beat.misses).collect();
    let things: BTreeSet<_> = misses.iter().flat_map(|one| one.split(' ')).collect();
    let mut standing = Vec::new();
    if things.contains("kms") {
        standing.push(Standing::new(AlertKind::KmsAway, "kms"));
    }
    let is_of_a_source = |thing: &&str| thing.starts_with("source/");
    if things.iter().any(is_of_a_source) {
        let mut names = columns::source_names(db).await?;
        names.retain(|name| things.contains(format!("source/{name}").as_str()));
        let away = |name| Standing::new(AlertKind::SourceAway, name);
        standing.extend(names.into_iter().map(away));
    }
    let settled = |one: Standing| one.after(MINUTE / 2);
    Ok(standing.into_iter().map(settled).collect())
}
