//! The same call for several objects.

use std::future::Future;

use futures_util::StreamExt as _;
use wharf_api::client::ClientError;

use crate::error::{CliError, Failures, Outcome};

/// How many calls run at once.
const AT_ONCE: usize = 50;

/// Makes one call per name, several at once, and prints each name in the order given as it is
/// done. Errors come at the end; the others are still handled.
pub(crate) async fn call_each<F, R>(names: &[String], call: F) -> Outcome
where
    F: Fn(String) -> R,
    R: Future<Output = Result<(), ClientError>>,
{
    call_each_but(names, |_| false, call).await
}

/// As [`call_each`]; errors that are `tolerated` are told of at once and are no failure.
pub(crate) async fn call_each_but<F, R>(names: &[String], tolerated: impl Fn(&ClientError) -> bool, call: F) -> Outcome
where
    F: Fn(String) -> R,
    R: Future<Output = Result<(), ClientError>>,
{
    let mut failures = Failures::default();
    let calls = names.iter().map(|name| {
        let result = call(name.clone());
        async move { (name, result.await) }
    });
    let mut results = futures_util::stream::iter(calls).buffered(AT_ONCE);
    while let Some((name, result)) = results.next().await {
        match result {
            Ok(()) => outln!("{name}"),
            Err(error) if tolerated(&error) => eprintln!("{error}"),
            Err(error) => failures.add(&CliError::from(error)),
        }
    }
    failures.outcome()
}
