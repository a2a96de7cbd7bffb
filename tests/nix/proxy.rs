//! A proxy that cuts the first long answer, and remembers what was asked.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

/// Listens on a free port for as long as the test runs.
pub struct CuttingProxy {
    address: String,
    asked: Arc<Mutex<Vec<u8>>>,
}

impl CuttingProxy {
    /// In front of a server; the first answer over so many bytes ends there.
    pub fn start(server: &str, cut_after: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound").to_string();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let has_cut = Arc::new(AtomicBool::new(false));
        let (server, seen) = (server.to_owned(), asked.clone());
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let far = TcpStream::connect(&server).expect("the server");
                let (seen, has_cut) = (seen.clone(), has_cut.clone());
                let up = (client.try_clone().expect("a socket"), far.try_clone().expect("a socket"));
                std::thread::spawn(move || copy_up(up.0, up.1, &seen));
                std::thread::spawn(move || copy_down(far, client, cut_after, &has_cut));
            }
        });
        Self { address, asked }
    }

    /// `host:port`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// All requests so far.
    pub fn asked(&self) -> String {
        String::from_utf8_lossy(&self.asked.lock().expect("no panic while it is held")).into_owned()
    }
}

fn copy_up(mut client: TcpStream, mut server: TcpStream, seen: &Mutex<Vec<u8>>) {
    let mut piece = [0; 16 * 1024];
    while let Ok(count @ 1..) = client.read(&mut piece) {
        seen.lock().expect("no panic while it is held").extend_from_slice(&piece[..count]);
        if server.write_all(&piece[..count]).is_err() {
            return;
        }
    }
    server.shutdown(Shutdown::Write).ok();
}

fn copy_down(mut server: TcpStream, mut client: TcpStream, cut_after: usize, has_cut: &AtomicBool) {
    let mut piece = [0; 16 * 1024];
    let mut passed = 0;
    while let Ok(count @ 1..) = server.read(&mut piece) {
        passed += count;
        if passed > cut_after && !has_cut.swap(true, Ordering::SeqCst) {
            client.shutdown(Shutdown::Both).ok();
            server.shutdown(Shutdown::Both).ok();
            return;
        }
        if client.write_all(&piece[..count]).is_err() {
            return;
        }
    }
    client.shutdown(Shutdown::Write).ok();
}
