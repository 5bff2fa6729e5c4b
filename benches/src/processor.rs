//! Processor time of a run, by who used it: on a shared machine it says more than the clock does.

use std::{collections::BTreeMap, fs};

use sqlx::PgPool;

/// Clock ticks of `/proc`; Linux shows a hundred a second to programs, whatever it counts in.
const TICKS_A_SECOND: f64 = 100.0;

/// The processes that are watched, and what they had used at the start.
pub struct Watch {
    watched: Vec<(String, u32)>,
    before: BTreeMap<String, f64>,
}

impl Watch {
    /// Watches programs of ours by name and process id, and the server behind `pool` if it runs on
    /// this machine.
    pub async fn start(pool: &PgPool, programs: Vec<(String, u32)>) -> anyhow::Result<Self> {
        let mut watched = programs;
        watched.extend(server(pool).await?.map(|pid| ("postgres".to_owned(), pid)));
        let before = used(&watched);
        Ok(Self { watched, before })
    }

    /// Seconds of processor time since then, by name.
    pub fn since(&self) -> BTreeMap<String, f64> {
        let mut now = used(&self.watched);
        for (name, seconds) in &mut now {
            *seconds -= self.before.get(name).copied().unwrap_or_default();
        }
        now
    }
}

/// The process that all sessions of the server are children of.
async fn server(pool: &PgPool) -> anyhow::Result<Option<u32>> {
    let backend: i32 = sqlx::query_scalar("SELECT pg_backend_pid()")
        .fetch_one(pool)
        .await?;
    let stat = Stat::of(&backend.to_string());
    Ok(stat
        .filter(|stat| stat.name == "postgres")
        .map(|stat| stat.parent))
}

/// What each has used with its children, those that ended among them.
fn used(watched: &[(String, u32)]) -> BTreeMap<String, f64> {
    let all: Vec<(u32, Stat)> = fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .filter_map(|entry| {
            let name = entry.ok()?.file_name().into_string().ok()?;
            Some((name.parse().ok()?, Stat::of(&name)?))
        })
        .collect();
    let mut used = BTreeMap::new();
    for (name, process) in watched {
        let ticks: u64 = all
            .iter()
            .map(|(pid, stat)| {
                let own = if pid == process { stat.with_ended } else { 0 };
                own + if stat.parent == *process { stat.own } else { 0 }
            })
            .sum();
        *used.entry(name.clone()).or_default() += ticks as f64 / TICKS_A_SECOND;
    }
    used
}

/// A line of `/proc/…/stat`.
struct Stat {
    name: String,
    parent: u32,
    /// Ticks of its own.
    own: u64,
    /// The same, and those of its children that ended.
    with_ended: u64,
}

impl Stat {
    fn of(pid: &str) -> Option<Self> {
        let line = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let (name, rest) = line.split_once('(')?.1.rsplit_once(") ")?;
        let fields: Vec<&str> = rest.split(' ').collect();
        let ticks = |at: usize| fields.get(at)?.parse::<u64>().ok();
        let own = ticks(11)? + ticks(12)?;
        Some(Self {
            name: name.to_owned(),
            parent: fields.get(1)?.parse().ok()?,
            own,
            with_ended: own + ticks(13)? + ticks(14)?,
        })
    }
}
