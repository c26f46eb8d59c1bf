//! Tests of the operations under way.
use super::*;
use crate::ErrorKind;

fn impatient(kind: OperationKind) -> Operations {
    Operations::new(BTreeMap::from([(kind, Duration::from_millis(50))]))
}

#[tokio::test]
async fn an_operation_is_seen_from_its_begin_to_its_end() {
    let operations = Operations::default();
    let (sender, receiver) = tokio::sync::oneshot::channel::<()>();
    let held = operations.clone();
    let running = tokio::spawn(async move {
        held.run(OperationKind::VolumeCreate, "v1", async {
            let _wait = waiting("the disk");
            let _ = receiver.await;
            Ok(7)
        })
        .await
    });
    while operations.list().first().is_none_or(|seen| seen.waits.is_empty()) {
        tokio::task::yield_now().await;
    }
    let seen = operations.list().remove(0);
    assert_eq!((seen.kind, seen.target.as_str()), (OperationKind::VolumeCreate, "v1"));
    assert_eq!((seen.waits[0].0.as_str(), seen.overdue), ("the disk", false));
    sender.send(()).expect("it waits");
    assert_eq!(running.await.expect("no panic").expect("done"), 7);
    assert!(operations.list().is_empty());
}

#[tokio::test]
async fn past_its_deadline_the_caller_hears_what_it_is_stuck_on_and_it_goes_on() {
    let operations = impatient(OperationKind::Remove);
    let (sender, receiver) = tokio::sync::oneshot::channel::<()>();
    let stuck = async {
        let _wait = waiting("unmounting the volume");
        let _ = receiver.await;
        Ok(())
    };
    let error = operations
        .run(OperationKind::Remove, "c1", stuck)
        .await
        .expect_err("late");
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(
        error.message().contains("stuck on unmounting the volume"),
        "{}",
        error.message()
    );
    assert!(operations.list().remove(0).overdue);
    sender.send(()).expect("it still waits");
    while !operations.list().is_empty() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn what_waits_behind_another_operation_names_it() {
    let operations = impatient(OperationKind::Start);
    let first = operations.begin(OperationKind::Remove, "c1");
    let held = Arc::clone(&first);
    tokio::spawn(within(held, async {
        let _wait = waiting("a dead mount");
        std::future::pending::<()>().await;
    }));
    while first.is_queued() {
        tokio::task::yield_now().await;
    }
    let second = operations.begin(OperationKind::Start, "c1");
    let never = std::future::pending::<Result<()>>();
    let error = operations.watch(&second, never).await.expect_err("late");
    let expected = format!("operation {} (remove), which is stuck on a dead mount", first.id);
    assert!(error.message().contains(&expected), "{}", error.message());
}

#[tokio::test]
async fn without_a_time_limit_nothing_is_overdue() {
    let operations = impatient(OperationKind::Stop);
    let stop = operations.begin_until(OperationKind::Stop, "c1", None);
    tokio::time::sleep(Duration::from_millis(60)).await;
    let seen = operations.list().remove(0);
    assert_eq!((seen.deadline, seen.overdue), (None, false));
    assert_eq!(operations.watch(&stop, async { Ok(1) }).await.expect("done"), 1);
}
