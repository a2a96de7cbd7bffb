//! SIGKILL while paths are pushed.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::archive;
use crate::harness::{Listener, Random, Server, http, say};

/// How often the server is killed; the variable `TWOFOLD_NIX_KILLS` sets it, 50 for the long form.
const KILLS: usize = 6;
/// Paths that are pushed between two kills, by this many pushers.
const PATHS: usize = 24;
const PUSHERS: usize = 4;

/// A path of several files of several size classes, made from its number.
fn path(number: usize) -> (String, Vec<u8>) {
    let mut random = Random::new(number as u64);
    let sizes = [100, 3000, 70_000, 1_200_000, 2_500_000];
    let files: Vec<(String, Vec<u8>)> =
        (0..3 + number % 3).map(|at| (format!("file{at}"), random.bytes(sizes[(number + at) % sizes.len()]))).collect();
    let files: Vec<(&str, &[u8])> = files.iter().map(|(name, data)| (name.as_str(), data.as_slice())).collect();
    (format!("path-{number}"), archive::nar(&files))
}

/// Sends a request; whether the server answered that it is stored.
fn put(listener: &Listener, line: &str, body: &[u8]) -> bool {
    let request = http::request(line, &[], body);
    let Listener::Tcp(address) = listener else { return false };
    let Ok(mut stream) = std::net::TcpStream::connect(address) else { return false };
    let mut answer = Vec::new();
    std::io::Write::write_all(&mut stream, &request).ok();
    std::io::Read::read_to_end(&mut stream, &mut answer).ok();
    answer.starts_with(b"HTTP/1.1 200")
}

fn push(listener: &Listener, number: usize) -> bool {
    let (name, nar) = path(number);
    put(listener, &format!("PUT /nix/default/nar/{}.nar", archive::hash(&nar)), &nar)
        && put(
            listener,
            &format!("PUT /nix/default/{}.narinfo", archive::path_hash(&name)),
            archive::narinfo(&name, &nar).as_bytes(),
        )
}

/// Whether the server has the path; if so, its NAR is whole.
fn check(server: &Server, number: usize) -> bool {
    let (name, nar) = path(number);
    let ask =
        |path: &str| http::exchange(server.listener(), &http::request(&format!("GET /nix/default/{path}"), &[], b""));
    let narinfo = ask(&format!("{}.narinfo", archive::path_hash(&name)));
    if narinfo.code == 404 {
        return false;
    }
    assert_eq!(narinfo.code, 200, "{name}");
    let served = ask(&format!("nar/{}.nar", archive::hash(&nar)));
    assert_eq!(served.code, 200, "the narinfo of {name} names a NAR that is not here");
    assert!(served.body == nar, "the NAR of {name} is another one");
    true
}

#[test]
fn no_narinfo_names_an_incomplete_nar_after_sigkill() {
    let kills = std::env::var("TWOFOLD_NIX_KILLS").ok().and_then(|count| count.parse().ok()).unwrap_or(KILLS);
    let mut server = Server::start(&[]);
    let mut random = Random::new(1);
    let (mut kept, mut lost, mut acknowledged_in_all) = (0, 0, 0);
    for round in 0..kills {
        let numbers = round * PATHS..(round + 1) * PATHS;
        // Counted in acknowledged pushes, so that each kill finds others under way.
        let after = random.below((PATHS - PUSHERS) as u64) as usize;
        let next = AtomicUsize::new(numbers.start);
        let (acknowledged, done) = (std::sync::Mutex::new(Vec::new()), std::sync::Condvar::new());
        let listener = server.listener().clone();
        std::thread::scope(|scope| {
            for _ in 0..PUSHERS {
                scope.spawn(|| {
                    loop {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        if number >= numbers.end || !push(&listener, number) {
                            return done.notify_all();
                        }
                        acknowledged.lock().expect("no panic").push(number);
                        done.notify_all();
                    }
                });
            }
            let held = acknowledged.lock().expect("no panic");
            drop(done.wait_while(held, |held| held.len() <= after).expect("no panic"));
            server.kill();
        });
        server.restart();
        let acknowledged = acknowledged.into_inner().expect("no panic");
        for number in numbers {
            let is_here = check(&server, number);
            assert!(is_here || !acknowledged.contains(&number), "path-{number} was acknowledged and is gone");
            if is_here { kept += 1 } else { lost += 1 }
        }
        acknowledged_in_all += acknowledged.len();
    }
    say(format!(
        "{kills} times SIGKILL during pushes: {acknowledged_in_all} paths acknowledged, {kept} served whole, {lost} absent, \
         none incomplete"
    ));
    assert!(lost > 0, "no kill hit a push");
}
