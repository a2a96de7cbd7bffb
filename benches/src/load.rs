//! Drives one server with so many calls at once for so long.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::Context;

use crate::call::{Call, Clients};

/// The calls of one round.
pub enum Pool {
    /// Sent over and over.
    Cyclic(Vec<Call>, AtomicUsize),
    /// Each sent once; the round ends when they are used up.
    Once(Mutex<Vec<Call>>),
}

impl Pool {
    pub fn cyclic(calls: Vec<Call>) -> Self {
        Self::Cyclic(calls, AtomicUsize::new(0))
    }

    pub fn once(mut calls: Vec<Call>) -> Self {
        // Taken from the end, so in the order given.
        calls.reverse();
        Self::Once(Mutex::new(calls))
    }

    pub fn next(&self) -> Option<Call> {
        match self {
            Self::Cyclic(calls, turn) => calls.get(turn.fetch_add(1, Ordering::Relaxed) % calls.len()).cloned(),
            Self::Once(calls) => calls.lock().expect("no holder panics").pop(),
        }
    }
}

/// What one round gave.
#[derive(Default)]
pub struct Load {
    pub calls: u64,
    pub payload_bytes: u64,
    pub elapsed: Duration,
    pub latencies_micros: Vec<u32>,
}

impl Load {
    /// Adds another round of the same work.
    pub fn add(&mut self, other: Self) {
        self.calls += other.calls;
        self.payload_bytes += other.payload_bytes;
        self.elapsed += other.elapsed;
        self.latencies_micros.extend(other.latencies_micros);
    }
}

/// Keeps `concurrency` calls under way, spread over the connections, until the time is up.
pub async fn drive(
    clients: &[Clients],
    pool: Arc<Pool>,
    concurrency: usize,
    duration: Duration,
) -> anyhow::Result<Load> {
    let start = Instant::now();
    let deadline = start + duration;
    let tasks: Vec<_> = clients
        .iter()
        .cycle()
        .take(concurrency)
        .map(|clients| tokio::spawn(one_after_another(clients.clone(), pool.clone(), deadline)))
        .collect();
    let mut load = Load::default();
    for task in tasks {
        load.add(task.await.context("a task of the load")??);
    }
    load.elapsed = start.elapsed();
    Ok(load)
}

async fn one_after_another(mut clients: Clients, pool: Arc<Pool>, deadline: Instant) -> anyhow::Result<Load> {
    let mut load = Load::default();
    while let Some(call) = pool.next() {
        let start = Instant::now();
        if start >= deadline {
            break;
        }
        load.payload_bytes += call.payload_bytes();
        call.run(&mut clients).await?;
        load.calls += 1;
        load.latencies_micros.push(u32::try_from(start.elapsed().as_micros()).unwrap_or(u32::MAX));
    }
    Ok(load)
}
