//! What a shim costs.

use std::time::{Duration, Instant};

use crate::stage::{Stage, exited, run};

/// Figures of `/proc/<pid>/smaps_rollup`, in KiB.
fn memory(pid: u32, field: &str) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).expect("a living process");
    let line = text.lines().find_map(|line| line.strip_prefix(field)).expect("a field");
    line.trim_start_matches(':')
        .trim()
        .trim_end_matches(" kB")
        .parse()
        .expect("a number")
}

#[test]
fn a_keeper_takes_less_than_a_megabyte() {
    run(async {
        let stage = Stage::new("echo started; sleep 100");
        let (client, mut events) = stage.launch(Vec::new()).await;
        client.start().await.expect("started");
        let shim = client.state().await.expect("a state").shim_pid;
        // Only the static, optimised binary is what ships.
        let (most_pss, most_anonymous) = if std::env::var_os("WHARF_SHIM").is_some() {
            (1024, 256)
        } else {
            (8192, 1024)
        };
        // What the start and the answer needed is given back after half a second of the keeper's own time.
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let (pss, anonymous) = (memory(shim, "Pss"), memory(shim, "Anonymous"));
            if pss < most_pss && anonymous < most_anonymous {
                println!("keeper: {pss} KiB PSS, {anonymous} KiB anonymous");
                break;
            }
            assert!(Instant::now() < deadline, "{pss} KiB PSS, {anonymous} KiB anonymous");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        client.kill(9).await.expect("killed");
        exited(&mut events).await;
        stage.leave(&client).await;
    });
}

#[test]
fn a_start_takes_milliseconds() {
    run(async {
        let mut best = [Duration::MAX; 4];
        for _ in 0..10 {
            let stage = Stage::new("");
            let mut times = [Duration::ZERO; 4];
            let begin = Instant::now();
            let (client, mut events) = stage.launch(Vec::new()).await;
            times[0] = begin.elapsed();
            client.start().await.expect("started");
            times[1] = begin.elapsed();
            exited(&mut events).await;
            times[2] = begin.elapsed();
            stage.leave(&client).await;
            times[3] = begin.elapsed();
            for (best, time) in best.iter_mut().zip(times) {
                *best = (*best).min(time);
            }
        }
        println!(
            "created {:?}, started {:?}, ended {:?}, gone {:?}",
            best[0], best[1], best[2], best[3]
        );
        assert!(best[3] < Duration::from_secs(1), "{best:?}");
    });
}
