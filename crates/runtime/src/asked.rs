//! A question that many ask and that is asked once: at a time, and in a while.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::Mutex;

/// An answer that holds for a while. Whoever asks while it is being looked for waits for the same one.
pub struct Asked<T>(Arc<Mutex<Option<(Instant, T)>>>);

impl<T> Default for Asked<T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<T: Clone + Send + 'static> Asked<T> {
    /// The answer, if one was given in the last `every`; otherwise the answer of `ask`. A caller that gives up does not
    /// end the question, and the next caller gets the answer.
    pub async fn or(&self, every: Duration, ask: impl Future<Output = T> + Send + 'static) -> T {
        let known = self.0.clone();
        let asked = tokio::spawn(async move {
            let mut known = known.lock().await;
            if let Some((at, answer)) = &*known
                && at.elapsed() < every
            {
                return answer.clone();
            }
            let answer = ask.await;
            *known = Some((Instant::now(), answer.clone()));
            answer
        });
        asked
            .await
            .expect("it does not panic, and ends with the runtime only")
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use tokio::sync::Notify;

    use super::*;

    const LONG: Duration = Duration::from_secs(3_600);

    /// Something that counts how often it is asked, and answers when it is told to.
    #[derive(Default)]
    struct Slow {
        asked: AtomicU32,
        answer: Notify,
    }

    impl Slow {
        async fn ask(self: Arc<Self>) -> u32 {
            let asked = self.asked.fetch_add(1, Ordering::Relaxed) + 1;
            self.answer.notified().await;
            asked
        }
    }

    #[tokio::test]
    async fn many_who_ask_at_once_get_one_answer() {
        let (known, slow) = (Asked::default(), Arc::new(Slow::default()));
        let ask = || known.or(LONG, slow.clone().ask());
        slow.answer.notify_one();
        let answers = tokio::join!(ask(), ask(), ask());
        assert_eq!(answers, (1, 1, 1));
        assert_eq!(known.or(LONG, slow.clone().ask()).await, 1);
        slow.answer.notify_one();
        assert_eq!(known.or(Duration::ZERO, slow.clone().ask()).await, 2);
    }

    #[tokio::test]
    async fn who_does_not_wait_for_the_answer_leaves_it_to_the_next() {
        let (known, slow) = (Asked::default(), Arc::new(Slow::default()));
        for _ in 0..5 {
            let impatient = known.or(LONG, slow.clone().ask());
            let left = tokio::time::timeout(Duration::from_millis(5), impatient).await;
            assert!(left.is_err());
        }
        slow.answer.notify_one();
        assert_eq!(known.or(LONG, slow.clone().ask()).await, 1);
        assert_eq!(slow.asked.load(Ordering::Relaxed), 1);
    }
}
