//! Each user's share of the desk: one that sends more holds nobody up, and that it did is written down.

use std::{collections::HashMap, time::Instant};

use rekey_domain::Allowance;
use rekey_operations::{Requester, Services, turned_away};

/// What each user of the broker has left, and what was turned away.
pub struct Flood {
    began: Instant,
    listed: HashMap<String, Share>,
    /// All that nobody listed share one: there may be any number of them.
    strangers: Share,
}

#[derive(Default)]
struct Share {
    allowance: Allowance,
    /// Turned away and not written down yet.
    untold: u64,
    /// It was written down in this flood that there is one.
    told: bool,
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

    /// Whether a request of this user is to be read. The first that is not is written down at once.
    pub async fn is_within(&mut self, services: &Services, user: Option<&str>) -> bool {
        let now = self.began.elapsed();
        let listed = user.and_then(|user| self.listed.get_mut(user));
        let (share, user) = match listed {
            Some(share) => (share, user),
            None => (&mut self.strangers, None),
        };
        if share.allowance.take(now) {
            return true;
        }
        share.untold += 1;
        if !share.told {
            share.told = true;
            share.tell(services, user).await;
        }
        false
    }

    /// Writes down what was turned away since; what cannot be written now is the next time.
    pub async fn tell(&mut self, services: &Services) {
        for (user, share) in &mut self.listed {
            share.tell(services, Some(user)).await;
        }
        self.strangers.tell(services, None).await;
    }
}

impl Share {
    async fn tell(&mut self, services: &Services, user: Option<&str>) {
        if self.untold == 0 {
            self.told = false;
            return;
        }
        match turned_away(services, user, self.untold).await {
            Ok(()) => {
                tracing::warn!(
                    user,
                    requests = self.untold,
                    "requests from outside turned away"
                );
                self.untold = 0;
            }
            Err(error) => tracing::warn!(%error, "what was turned away is written down later"),
        }
    }
}
