//! What end-to-end tests share: deployments in a process and across processes, roles, awaiting.

#![expect(
    clippy::shadow_unrelated,
    reason = "a test looks at one thing again and again"
)]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![expect(missing_docs, reason = "names say it, and only tests read them")]

pub mod cluster;
pub mod process;
pub mod roles;
pub mod support;
