//! A reference model of a rotation, played against the rules with random events.
//!
//! The model keeps what the world would: keys with states, rows under versions, batches in flight.
//! Each event is one thing that can happen; `advance` is the rotator carrying out one step.

use chrono::{DateTime, TimeDelta, Utc};
use proptest::prelude::*;

use super::*;
use crate::{KeyState, Response, RotationKind, SweepDecision, decide_sweep, respond};

const RANGES: u64 = 4;

#[derive(Debug, Clone, Copy)]
enum Event {
    /// The rotator wakes, once or as a duplicate.
    Advance,
    /// Another request arrives; a canary is one for a part of the rows first.
    Request { canary: bool },
    /// A person asks for a sweep.
    Sweep,
    /// The ordered standby is made.
    StandbyMade,
    /// One batch in flight ends well.
    BatchDone,
    /// One batch is given up.
    BatchFailed,
    /// `rotations retry`.
    Retry,
    /// A client that has not refreshed writes a row under the last key but one.
    StaleWrite,
    /// The clock steps, either way.
    Clock(i64),
    /// A person pauses or resumes.
    Pause(bool),
    /// A person cancels.
    Cancel,
    /// A key is reported compromised.
    Report(usize),
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        12 => Just(Event::Advance),
        1 => any::<bool>().prop_map(|canary| Event::Request { canary }),
        1 => Just(Event::Sweep),
        3 => Just(Event::StandbyMade),
        6 => Just(Event::BatchDone),
        1 => Just(Event::BatchFailed),
        1 => Just(Event::Retry),
        2 => Just(Event::StaleWrite),
        3 => (-200_000i64..900_000).prop_map(Event::Clock),
        1 => any::<bool>().prop_map(Event::Pause),
        1 => Just(Event::Cancel),
        1 => any::<usize>().prop_map(Event::Report),
    ];
    prop::collection::vec(event, 1..200)
}

struct Live {
    kind: RotationKind,
    rotation: Rotation,
    first_pass: bool,
    target: Option<usize>,
    planned: bool,
    open: u64,
    failed: u64,
    census: Option<PassCensus>,
    moved: u64,
    passes_before: u32,
}

impl Live {
    fn begin_pass(&mut self, due_at: Option<DateTime<Utc>>) {
        self.rotation.due_at = due_at;
        (self.first_pass, self.planned, self.census) = (false, false, None);
        self.moved = 0;
        self.passes_before += 1;
        (self.open, self.failed) = (0, 0);
    }
}

impl Live {
    fn hurry(&mut self) {
        self.planned &= !self.rotation.canary;
        (self.rotation.emergency, self.rotation.due_at) = (true, None);
        (self.rotation.paused, self.rotation.canary) = (false, false);
    }
}

/// As under a policy that was lowered since: longer than some grace periods.
const LEASE: TimeDelta = TimeDelta::hours(20);

struct World {
    now: DateTime<Utc>,
    timing: Timing,
    keys: Vec<KeyState>,
    standby_ordered: bool,
    /// How many rows stand under each key.
    rows: Vec<u64>,
    rotations: Vec<Live>,
    completed: usize,
    /// When the last lease under a replaced key ends, while one lives.
    leases_end: Option<DateTime<Utc>>,
}

impl World {
    fn new() -> Self {
        Self {
            now: DateTime::UNIX_EPOCH + TimeDelta::days(20_000),
            timing: Timing::default(),
            keys: vec![KeyState::Active, KeyState::Pending],
            standby_ordered: false,
            rows: vec![100, 0],
            rotations: Vec::new(),
            completed: 0,
            leases_end: None,
        }
    }

    fn standby(&self) -> Option<usize> {
        self.keys
            .iter()
            .position(|state| *state == KeyState::Pending)
    }

    fn primary(&self) -> Option<usize> {
        self.keys
            .iter()
            .position(|state| *state == KeyState::Active)
    }

    fn apply(&mut self, event: Event) {
        match event {
            Event::Advance => self.advance(),
            Event::Request { canary } => self.request(canary),
            Event::Sweep => self.sweep(),
            Event::StandbyMade if self.standby_ordered => {
                self.standby_ordered = false;
                self.keys.push(KeyState::Pending);
                self.rows.push(0);
            }
            Event::BatchDone => self.end_batch(true),
            Event::BatchFailed => self.end_batch(false),
            Event::Retry => self.retry(),
            Event::StaleWrite => self.stale_write(),
            Event::Clock(seconds) => self.pass(TimeDelta::seconds(seconds)),
            Event::Pause(paused) => {
                if let Some(live) = self.rotations.last_mut() {
                    live.rotation.paused = paused;
                }
            }
            Event::Cancel => self.cancel(),
            Event::Report(key) => self.report(key % self.keys.len()),
            Event::StandbyMade => {}
        }
    }

    /// A lease that ended stays ended, whatever the clock does next. A clock that goes back does not make a lease
    /// longer.
    fn pass(&mut self, by: TimeDelta) {
        for by in [TimeDelta::zero(), by] {
            self.now += by;
            let live = self.leases_end.filter(|end| self.now < *end);
            self.leases_end = live.map(|end| end.min(self.now + LEASE));
        }
    }

    /// Stops where it is: no key and no row changes, and what is in flight ends for nothing.
    fn cancel(&mut self) {
        let (keys, rows) = (self.keys.clone(), self.rows.clone());
        let Some(live) = self.rotations.last_mut() else {
            return;
        };
        let state = live.rotation.state;
        let stopped = !self.keys.contains(&KeyState::Active);
        if stopped && state == RotationState::Requested {
            return;
        }
        match state.become_state(RotationState::Cancelled) {
            Ok(cancelled) => live.rotation.state = cancelled,
            Err(_) => assert!(
                !state.is_live() && state != RotationState::Failed,
                "{state}"
            ),
        }
        self.end_batch(true);
        self.advance();
        assert!(
            (&self.keys, &self.rows) == (&keys, &rows),
            "cancelled, and moved on"
        );
    }

    fn request(&mut self, canary: bool) {
        let latest = self.rotations.last();
        let latest = latest.map(|live| (live.rotation.state, live.rotation.emergency));
        match decide_request(latest) {
            RequestDecision::Join => return,
            RequestDecision::Supersede => self.supersede(),
            RequestDecision::Start => {}
        }
        self.start(RotationKind::Switch, canary, None);
    }

    fn sweep(&mut self) {
        let latest = self.rotations.last();
        match decide_sweep(latest.map(|live| (live.kind, live.rotation.state))) {
            SweepDecision::Join | SweepDecision::RetryFirst => {
                assert!(latest.unwrap().kind == RotationKind::Switch);
            }
            SweepDecision::AnotherPass => self.rotations.last_mut().unwrap().begin_pass(None),
            SweepDecision::Supersede => {
                self.supersede();
                self.start(RotationKind::Sweep, false, self.primary());
            }
            SweepDecision::Start => self.start(RotationKind::Sweep, false, self.primary()),
        }
    }

    fn report(&mut self, key: usize) {
        let latest = self.rotations.last();
        let latest = latest.map(|live| (live.kind, live.rotation.state));
        let response = respond(self.keys[key], latest);
        let is_first_standby = self.standby() == Some(key);
        if !matches!(response, Response::Note | Response::Again) {
            self.keys[key] = self.keys[key].become_state(KeyState::Compromised).unwrap();
        }
        match response {
            Response::Note | Response::Again => {}
            Response::Replace { supersede } => self.replace(supersede),
            Response::Sweep { supersede } => {
                if supersede {
                    self.supersede();
                }
                self.start(RotationKind::Sweep, false, self.primary());
                self.rotations.last_mut().unwrap().hurry();
            }
            Response::Hurry => self.rotations.last_mut().unwrap().hurry(),
            Response::Restart | Response::OrderStandby => {
                self.standby_ordered = true;
                if response == Response::Restart && is_first_standby {
                    let live = &mut self.rotations.last_mut().unwrap().rotation;
                    live.state = live.state.become_state(RotationState::Requested).unwrap();
                    live.due_at = None;
                }
            }
        }
    }

    fn replace(&mut self, supersede: bool) {
        if supersede {
            self.supersede();
        }
        self.leases_end = Some(self.now + LEASE);
        let standby = self.standby();
        self.start(RotationKind::Switch, false, standby);
        self.standby_ordered = true;
        let live = self.rotations.last_mut().unwrap();
        live.hurry();
        if let Some(standby) = standby {
            self.keys[standby] = self.keys[standby].become_state(KeyState::Active).unwrap();
            let next = live
                .rotation
                .state
                .become_state(RotationState::ReEncrypting);
            live.rotation.state = next.unwrap();
        }
    }

    fn supersede(&mut self) {
        let last = &mut self.rotations.last_mut().unwrap().rotation;
        last.state = last.state.become_state(RotationState::Superseded).unwrap();
    }

    fn start(&mut self, kind: RotationKind, canary: bool, target: Option<usize>) {
        let rotation = Rotation {
            state: kind.starts_in(),
            paused: false,
            canary,
            emergency: false,
            due_at: None,
        };
        self.rotations.push(Live {
            kind,
            rotation,
            first_pass: true,
            target,
            planned: false,
            open: 0,
            failed: 0,
            census: None,
            moved: 0,
            passes_before: 0,
        });
    }

    fn stale_write(&mut self) {
        // In any state of the rotation: a process with a lease does not know it.
        if let (Some(_), Some(primary @ 1..)) = (self.leases_end, self.primary()) {
            self.rows[primary - 1] += 1;
        }
    }

    fn retry(&mut self) {
        let Some(live) = self.rotations.last_mut() else {
            return;
        };
        if live.rotation.state == RotationState::Failed {
            live.open = std::mem::take(&mut live.failed);
            let next = live.kind.retried_in(live.first_pass);
            live.rotation.state = RotationState::Failed.become_state(next).unwrap();
        }
    }

    fn end_batch(&mut self, well: bool) {
        let Some(live) = self.rotations.last_mut() else {
            return;
        };
        let running = matches!(
            live.rotation.state,
            RotationState::ReEncrypting | RotationState::Verifying
        );
        if !running || live.open == 0 {
            return;
        }
        live.open -= 1;
        if !well {
            live.failed += 1;
            return;
        }
        let target = live.target.expect("batches exist only after the switch");
        // A canary's part is not all of the rows.
        let last_of_pass = live.open == 0 && live.failed == 0 && !live.rotation.canary;
        let moved: u64 = self.rows[..target]
            .iter_mut()
            .map(|rows| {
                let taken = if last_of_pass { *rows } else { *rows / 2 };
                *rows -= taken;
                taken
            })
            .sum();
        self.rows[target] += moved;
        if let Some(live) = self.rotations.last_mut() {
            live.moved += moved;
        }
    }

    fn advance(&mut self) {
        self.pass(TimeDelta::zero());
        let standby = self.standby();
        let primary = self.primary();
        let Some(live) = self.rotations.last_mut() else {
            return;
        };
        let facts = Facts {
            standby_ready: standby.is_some(),
            standby_settles_at: None,
            planned: live.planned,
            open_batches: live.open,
            failed_batches: live.failed,
            passes_before: live.passes_before,
            moved: live.moved,
            census: live.census,
            leases_end: self.leases_end,
        };
        let step = next_step(&live.rotation, &facts, &self.timing, self.now);
        let go = |live: &mut Live, state, due_at| {
            live.rotation.state = live.rotation.state.become_state(state).unwrap();
            live.rotation.due_at = due_at;
        };
        let of_a_switch = matches!(
            step,
            Step::OrderStandby | Step::Distribute { .. } | Step::Restart | Step::Switch
        );
        assert!(
            !of_a_switch || live.kind == RotationKind::Switch,
            "a sweep, and {step:?}"
        );
        match step {
            Step::WaitUntil(due) => {
                assert!(due > self.now && due <= self.now + self.timing.grace_period)
            }
            Step::Await => {}
            Step::OrderStandby => self.standby_ordered = true,
            Step::Distribute { until } => go(live, RotationState::Distributing, Some(until)),
            Step::Restart => go(live, RotationState::Requested, None),
            Step::Switch => {
                let standby = standby.unwrap();
                // A compromised primary key has stopped already.
                if let Some(primary) = primary {
                    self.keys[primary] =
                        self.keys[primary].become_state(KeyState::Inactive).unwrap();
                }
                self.keys[standby] = self.keys[standby].become_state(KeyState::Active).unwrap();
                live.target = Some(standby);
                self.standby_ordered = true;
                self.leases_end = Some(self.now + LEASE);
                go(live, RotationState::ReEncrypting, None);
            }
            Step::Plan => {
                live.planned = true;
                live.open = RANGES;
            }
            Step::EndCanary => {
                assert!(live.open == 0, "batches in flight at the end of a canary");
                (live.rotation.paused, live.rotation.canary) = (true, false);
                live.planned = false;
            }
            Step::BeginGrace { until } => go(live, RotationState::Grace, Some(until)),
            Step::BeginVerifying => {
                go(live, RotationState::Verifying, None);
                live.begin_pass(None);
            }
            Step::TakeCensus => {
                let below_target = self.rows[..live.target.unwrap()].iter().sum();
                live.census = Some(PassCensus { below_target });
            }
            Step::SweepAgain { at } => live.begin_pass(Some(at)),
            Step::Complete => {
                assert_eq!(
                    self.rows[..live.target.unwrap()].iter().sum::<u64>(),
                    0,
                    "completed with old rows"
                );
                go(live, RotationState::Completed, None);
                assert_eq!(
                    live.target, primary,
                    "completed under another key than the primary"
                );
                self.completed += 1;
            }
            Step::Fail => go(live, RotationState::Failed, None),
        }
    }

    fn check(&self) {
        let actives = self
            .keys
            .iter()
            .filter(|state| **state == KeyState::Active)
            .count();
        let waits = self.rotations.last().is_some_and(|live| {
            live.rotation.emergency && live.rotation.state == RotationState::Requested
        });
        assert!(
            actives == 1 || (actives == 0 && waits),
            "{actives} primaries"
        );
        assert!(
            self.rotations
                .iter()
                .filter(|live| live.rotation.state.is_live())
                .count()
                <= 1,
            "one live rotation"
        );
        let under_readable = self
            .rows
            .iter()
            .zip(&self.keys)
            .all(|(rows, key)| *rows == 0 || key.may_decrypt(true));
        assert!(under_readable, "every row stays readable");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn no_order_of_events_breaks_an_invariant(events in events()) {
        let mut world = World::new();
        world.request(false);
        let total = |world: &World| world.rows.iter().sum::<u64>();
        for event in events {
            let before = total(&world);
            world.apply(event);
            world.check();
            prop_assert!(total(&world) >= before, "no row is lost");
        }
    }

    /// After any past, a keyring whose people do their part gets its rows under one key.
    #[test]
    fn every_past_can_still_complete(events in events()) {
        let mut world = World::new();
        world.request(false);
        events.into_iter().for_each(|event| world.apply(event));
        let completed = world.completed;
        world.apply(Event::Pause(false));
        world.apply(Event::Retry);
        world.apply(Event::Request { canary: false });
        for _ in 0..200 {
            for event in [Event::Pause(false), Event::Retry, Event::StandbyMade, Event::Advance, Event::BatchDone] {
                world.apply(event);
            }
            world.apply(Event::Clock(3_600 * 6));
        }
        prop_assert!(world.completed > completed);
        let primary = world.primary().unwrap();
        prop_assert_eq!(world.rows[..primary].iter().sum::<u64>(), 0);
    }

    /// After any past that left a rotation behind, rows reach the primary key without a switch.
    #[test]
    fn after_any_past_a_sweep_leaves_nothing_below_the_primary_and_switches_nothing(events in events()) {
        let mut world = World::new();
        events.into_iter().for_each(|event| world.apply(event));
        world.apply(Event::Cancel);
        // What replaces a compromised key cannot be cancelled before it has.
        prop_assume!(world.primary().is_some());
        let (keys, primary) = (world.keys.clone(), world.primary().unwrap());
        world.apply(Event::Sweep);
        for _ in 0..50 {
            for event in [Event::Pause(false), Event::Advance, Event::BatchDone] {
                world.apply(event);
            }
            world.apply(Event::Clock(3_600 * 6));
        }
        let last = world.rotations.last().unwrap();
        prop_assert_eq!((last.kind, last.rotation.state), (RotationKind::Sweep, RotationState::Completed));
        prop_assert_eq!(&world.keys, &keys);
        prop_assert_eq!(world.rows[..primary].iter().sum::<u64>(), 0);
    }

    #[test]
    fn only_the_rules_arrows_exist(from in 0usize..9, to in 0usize..9) {
        let (from, to) = (RotationState::ALL[from], RotationState::ALL[to]);
        prop_assert_eq!(from.become_state(to).is_ok(), from.may_become(to));
        if matches!(from, RotationState::Completed | RotationState::Cancelled | RotationState::Superseded) {
            prop_assert!(!from.may_become(to), "{} is an end", from);
        }
    }
}

/// A failover of the store that loses its last seconds would lose the key too.
#[test]
fn in_an_emergency_a_key_that_was_just_made_is_not_used_at_once() {
    let now = DateTime::UNIX_EPOCH + TimeDelta::days(1);
    let rotation = Rotation {
        state: RotationState::Requested,
        paused: false,
        canary: false,
        emergency: true,
        due_at: None,
    };
    let step = |settles: Option<i64>| {
        let facts = Facts {
            standby_ready: true,
            standby_settles_at: settles.map(|seconds| now + TimeDelta::seconds(seconds)),
            planned: false,
            open_batches: 0,
            failed_batches: 0,
            passes_before: 0,
            moved: 0,
            census: None,
            leases_end: None,
        };
        next_step(&rotation, &facts, &Timing::default(), now)
    };
    assert_eq!(step(None), Step::Switch);
    assert_eq!(step(Some(0)), Step::Switch);
    assert_eq!(step(Some(4)), Step::WaitUntil(now + TimeDelta::seconds(4)));
    // The clock was stepped back.
    assert_eq!(step(Some(3_600)), Step::WaitUntil(now + KEY_SETTLES));
}

#[test]
fn a_request_joins_while_batches_run_and_supersedes_later() {
    use RotationState::*;
    for state in [Requested, Distributing, ReEncrypting] {
        assert_eq!(decide_request(Some((state, false))), RequestDecision::Join);
    }
    for state in [Grace, Verifying, Failed] {
        assert_eq!(
            decide_request(Some((state, false))),
            RequestDecision::Supersede
        );
        let expected = match state {
            RotationState::Failed => RequestDecision::Supersede,
            _ => RequestDecision::Join,
        };
        assert_eq!(decide_request(Some((state, true))), expected);
    }
    assert_eq!(decide_request(None), RequestDecision::Start);
}
