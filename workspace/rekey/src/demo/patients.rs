//! Synthetic patients: what the application knows of each follows from its id and revision.

use fake::{
    Fake,
    faker::{lorem::en::Sentences, name::en::Name},
};
use rand::{RngExt, SeedableRng, rngs::StdRng};

/// What a patient's protected columns say.
pub struct Patient {
    /// Not protected.
    pub name: String,
    /// `123-45-6789`.
    pub ssn: String,
    /// One to thirty sentences.
    pub notes: String,
}

impl Patient {
    /// The patient `id` as of `revision`: always the same, so that nothing need be remembered.
    pub fn of(id: i64, revision: u32) -> Self {
        let mut rng = StdRng::seed_from_u64(id.unsigned_abs() << 20 ^ u64::from(revision));
        let (area, group, serial) = (
            rng.random_range(1..900),
            rng.random_range(1..100),
            rng.random_range(1..10_000),
        );
        let sentences: usize = rng.random_range(1..30);
        let notes: Vec<String> = Sentences(sentences..sentences + 1).fake_with_rng(&mut rng);
        Self {
            name: Name().fake_with_rng(&mut rng),
            ssn: format!("{area:03}-{group:02}-{serial:04}"),
            notes: notes.join(" "),
        }
    }
}
