//! Each user's share of the desk: one that sends more holds nobody up, and that it did is written down.

use std::{collections::HashMap, time::Instant};

use rekey_domain::Allowance;
use rekey_operations::Requester;

/// What each user of the broker has left, and what was turned away.
pub struct Flood {
    began: Instant,
    listed: HashMap<String, Share>,
    /// All users who are not listed share one, as there may be any number of them.
    strangers: Share,
}

#[derive(Default)]
struct Share {
    allowance: Allowance,
    /// Turned away and not written down yet.
    untold: u64,
    /// It was written down that there is a flood, and it has not ended.
    told: bool,
}

/// Requests that were turned away, to be written down.
pub struct Untold {
    /// Whose: a listed user's, or any others'.
    pub user: Option<String>,
    /// How many.
    pub requests: u64,
}

impl Flood {
    pub fn new(requesters: &[Requester]) -> Self {
        let users = requesters.iter().map(|one| one.amqp_user.clone());
        Self {
            began: Instant::now(),
            listed: users.map(|user| (user, Share::default())).collect(),
            strangers: Share::default(),
        }
    }

    /// None: a request of this user is to be read. Else it is turned away, and the first is to be written down at once.
    pub fn turn_away(&mut self, user: Option<&str>) -> Option<Option<Untold>> {
        let now = self.began.elapsed();
        let listed = user.and_then(|user| self.listed.get_mut(user));
        let (share, user) = match listed {
            Some(share) => (share, user),
            None => (&mut self.strangers, None),
        };
        if share.allowance.take(now) {
            return None;
        }
        share.untold += 1;
        let first = !std::mem::replace(&mut share.told, true);
        Some(first.then(|| share.untold(user)).flatten())
    }

    /// What was turned away since this was asked last.
    pub fn untold(&mut self) -> Vec<Untold> {
        let listed = self.listed.iter_mut();
        let mut untold: Vec<_> = listed
            .filter_map(|(user, share)| share.untold(Some(user)))
            .collect();
        untold.extend(self.strangers.untold(None));
        untold
    }
}

impl Share {
    fn untold(&mut self, user: Option<&str>) -> Option<Untold> {
        let requests = std::mem::take(&mut self.untold);
        self.told = requests > 0;
        self.told.then(|| Untold {
            user: user.map(ToOwned::to_owned),
            requests,
        })
    }
}
