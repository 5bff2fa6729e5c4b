//! `/livez`, `/readyz` and `/metrics` of a process, for whoever runs it.

use std::{future::IntoFuture, sync::Arc, time::Duration};

use async_trait::async_trait;
use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use metrics_exporter_prometheus::PrometheusHandle;
use serde::Serialize;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::Asked;

/// A dependency that does not answer within this is not there.
const PATIENCE: Duration = Duration::from_secs(3);
/// However many ask however often, what a process needs is asked no more often than this.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Asks a process about itself.
#[async_trait]
pub trait Probe: Send + Sync {
    /// Everything the process needs, each there or not, and why not.
    async fn needs(&self) -> Vec<Need>;

    /// Brings the gauges up to date, before they are read.
    async fn sample(&self);
}

/// Something a process needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Need {
    /// What: `store`, `broker`.
    pub name: String,
    /// Why it is not there, and what helps; none: it is.
    pub problem: Option<String>,
}

#[derive(Clone)]
struct Health {
    probe: Arc<dyn Probe>,
    needs: Arc<Asked<Vec<Need>>>,
    sampled: Arc<Asked<()>>,
    metrics: Option<PrometheusHandle>,
}

/// Answers until `shutdown`.
pub async fn serve(
    listener: TcpListener,
    probe: Arc<dyn Probe>,
    metrics: Option<PrometheusHandle>,
    shutdown: CancellationToken,
) {
    // Liveness asks nobody: restarting us because the store is away would only add to its trouble.
    let alive = || async { "alive\n" };
    let router = Router::new()
        .route("/livez", get(alive))
        .route("/healthz", get(alive))
        .route("/readyz", get(ready))
        .route("/metrics", get(rendered))
        .with_state(Health {
            probe,
            needs: Arc::default(),
            sampled: Arc::default(),
            metrics,
        });
    let served = axum::serve(listener, router).with_graceful_shutdown(shutdown.cancelled_owned());
    if let Err(error) = served.into_future().await {
        tracing::error!(%error, "health and metrics are not served any more");
    }
}

#[derive(Serialize)]
struct Readiness {
    ready: bool,
    needs: Vec<Need>,
}

async fn ready(State(health): State<Health>) -> Response {
    let needs = health.needs.or(LOOK_EVERY, needs(health.probe)).await;
    let ready = needs.iter().all(|need| need.problem.is_none());
    let status = if ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    let body = serde_json::to_string(&Readiness { ready, needs })
        .expect("readiness has string keys and no failing serializer");
    let json = [(header::CONTENT_TYPE, "application/json")];
    (status, json, body).into_response()
}

async fn needs(probe: Arc<dyn Probe>) -> Vec<Need> {
    let asked = tokio::time::timeout(PATIENCE, probe.needs()).await;
    asked.unwrap_or_else(|_| {
        vec![Need {
            name: "answer".to_owned(),
            problem: Some(format!("no answer within {} s", PATIENCE.as_secs())),
        }]
    })
}

async fn rendered(State(health): State<Health>) -> Response {
    health.sampled.or(LOOK_EVERY, sample(health.probe)).await;
    let text = health.metrics.map(|metrics| metrics.render());
    let prometheus = [(header::CONTENT_TYPE, "text/plain; version=0.0.4")];
    (prometheus, text.unwrap_or_default()).into_response()
}

/// A store that is away must not hide what was counted.
async fn sample(probe: Arc<dyn Probe>) {
    let _ = tokio::time::timeout(PATIENCE, probe.sample()).await;
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    struct Fixed(Option<&'static str>);

    #[async_trait]
    impl Probe for Fixed {
        async fn needs(&self) -> Vec<Need> {
            vec![Need {
                name: "store".to_owned(),
                problem: self.0.map(str::to_owned),
            }]
        }

        async fn sample(&self) {}
    }

    struct Hanging;

    #[async_trait]
    impl Probe for Hanging {
        async fn needs(&self) -> Vec<Need> {
            std::future::pending().await
        }

        async fn sample(&self) {
            std::future::pending().await
        }
    }

    /// Counts how often it is asked, and takes its time.
    #[derive(Default)]
    struct Slow(AtomicU32);

    #[async_trait]
    impl Probe for Slow {
        async fn needs(&self) -> Vec<Need> {
            self.0.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(100)).await;
            Vec::new()
        }

        async fn sample(&self) {
            self.needs().await;
        }
    }

    async fn get(probe: impl Probe + 'static, path: &str) -> String {
        get_many(Arc::new(probe), path, 1).await.remove(0)
    }

    /// The answers to so many who ask at once.
    async fn get_many(probe: Arc<dyn Probe>, path: &str, many: usize) -> Vec<String> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let place = listener.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let serving = tokio::spawn(serve(listener, probe, None, shutdown.clone()));
        let ask = async || {
            let mut stream = tokio::net::TcpStream::connect(place).await.unwrap();
            let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            answer
        };
        let asked = (0..many).map(|_| ask());
        let answers = futures::future::join_all(asked).await;
        shutdown.cancel();
        serving.await.unwrap();
        answers
    }

    #[tokio::test]
    async fn a_slow_answer_is_for_all_who_asked_meanwhile() {
        for path in ["/readyz", "/metrics"] {
            let slow = Arc::new(Slow::default());
            let answers = get_many(slow.clone(), path, 20).await;
            assert!(answers.iter().all(|one| one.starts_with("HTTP/1.1 200")));
            assert_eq!(slow.0.load(Ordering::Relaxed), 1, "{path}");
        }
    }

    #[tokio::test]
    async fn a_process_that_lacks_something_is_alive_and_not_ready_and_says_why() {
        let problem = "the store is out of reach";
        let ready = get(Fixed(Some(problem)), "/readyz").await;
        assert!(ready.starts_with("HTTP/1.1 503"), "{ready}");
        assert!(ready.contains(problem), "{ready}");
        let alive = get(Fixed(Some(problem)), "/livez").await;
        assert!(alive.starts_with("HTTP/1.1 200"), "{alive}");
        let ready = get(Fixed(None), "/readyz").await;
        assert!(ready.starts_with("HTTP/1.1 200"), "{ready}");
    }

    #[tokio::test]
    async fn a_need_that_does_not_answer_is_not_waited_for_for_ever() {
        let ready = get(Hanging, "/readyz").await;
        assert!(ready.starts_with("HTTP/1.1 503"), "{ready}");
        let metrics = get(Hanging, "/metrics").await;
        assert!(metrics.starts_with("HTTP/1.1 200"), "{metrics}");
        let alive = get(Hanging, "/livez").await;
        assert!(alive.starts_with("HTTP/1.1 200"), "{alive}");
    }
}
