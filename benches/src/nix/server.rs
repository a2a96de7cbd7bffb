//! The two servers, as child processes.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};

/// Whatever answers for a Nix cache.
pub trait Cache {
    /// `host:port`.
    fn address(&self) -> &str;
    /// What comes before `nix-cache-info`, with a slash at its end.
    fn prefix(&self) -> &'static str;
    /// Microseconds of CPU that all of its processes have used.
    fn cpu_micros(&self) -> anyhow::Result<u64>;
}

/// `twofold serve` with its defaults.
pub struct Twofold {
    program: PathBuf,
    data: PathBuf,
    args: Vec<String>,
    child: Child,
    address: String,
}

impl Twofold {
    pub fn start(program: &Path, data: &Path, args: &[&str]) -> anyhow::Result<Self> {
        let args = args.iter().map(|arg| (*arg).to_owned()).collect();
        Self::start_on(program.to_owned(), data.to_owned(), args)
    }

    fn start_on(program: PathBuf, data: PathBuf, args: Vec<String>) -> anyhow::Result<Self> {
        let log = File::create(data.with_extension("log"))?;
        let mut command = Command::new(&program);
        command.args(["serve", "--listen", "127.0.0.1:0", "--max-size", "64GiB", "--data"]).arg(&data).args(&args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log);
        let mut child = command.spawn().with_context(|| format!("cannot start {}", program.display()))?;
        let stdout = child.stdout.take().context("piped above")?;
        let first = BufReader::new(stdout).lines().next().transpose()?;
        let Some(address) = first.as_deref().and_then(|line| line.strip_prefix("listening on ")) else {
            bail!("the server did not start: {}", fs::read_to_string(data.with_extension("log"))?);
        };
        let address = address.to_owned();
        Ok(Self { program, data, args, child, address })
    }

    pub fn url(&self) -> String {
        format!("http://{}/nix/default", self.address)
    }

    /// Ends the server as an operator does.
    pub fn stop(mut self) -> anyhow::Result<()> {
        let id = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(id, rustix::process::Signal::TERM)?;
        let status = self.child.wait()?;
        ensure!(status.success(), "the server ended with {status}");
        Ok(())
    }

    pub fn restart(self) -> anyhow::Result<Self> {
        let (program, data, args) = (self.program.clone(), self.data.clone(), self.args.clone());
        self.stop()?;
        Self::start_on(program, data, args)
    }
}

impl Cache for Twofold {
    fn address(&self) -> &str {
        &self.address
    }

    fn prefix(&self) -> &'static str {
        "/nix/default/"
    }

    fn cpu_micros(&self) -> anyhow::Result<u64> {
        cpu_micros(self.child.id())
    }
}

impl Drop for Twofold {
    fn drop(&mut self) {
        // An error means that it has ended already.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// nginx over a folder, as Debian configures it, without its log.
pub struct Nginx {
    child: Child,
    address: String,
}

impl Nginx {
    pub fn start(root: &Path, work: &Path) -> anyhow::Result<Self> {
        fs::create_dir_all(root)?;
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let (root, work) = (root.display(), work.display());
        let config = format!(
            "daemon off;\nworker_processes auto;\npid {work}/nginx.pid;\nerror_log {work}/nginx.log;\n\
             events {{ worker_connections 768; }}\n\
             http {{ sendfile on; tcp_nopush on; keepalive_requests 1000000; access_log off; default_type \
             application/octet-stream; client_body_temp_path {work}/b; proxy_temp_path {work}/p; fastcgi_temp_path \
             {work}/f; uwsgi_temp_path {work}/u; scgi_temp_path {work}/s;\n\
             server {{ listen 127.0.0.1:{port}; root {root}; }} }}\n"
        );
        let file = format!("{work}/nginx.conf");
        fs::write(&file, config)?;
        // The workers must read the folder whoever owns it.
        let who = if rustix::process::geteuid().is_root() { "user root;" } else { "" };
        let child = Command::new("nginx")
            .args(["-c", &file, "-e", &format!("{work}/nginx.log"), "-g", who])
            .stdin(Stdio::null())
            .spawn()
            .context("cannot start nginx; install it: apt-get install nginx-light")?;
        let nginx = Self { child, address: format!("127.0.0.1:{port}") };
        let deadline = Instant::now() + Duration::from_secs(10);
        while std::net::TcpStream::connect(&nginx.address).is_err() {
            ensure!(
                Instant::now() < deadline,
                "nginx does not listen: {}",
                fs::read_to_string(format!("{work}/nginx.log"))?
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(nginx)
    }
}

impl Cache for Nginx {
    fn address(&self) -> &str {
        &self.address
    }

    fn prefix(&self) -> &'static str {
        "/"
    }

    fn cpu_micros(&self) -> anyhow::Result<u64> {
        let id = self.child.id();
        let workers = fs::read_to_string(format!("/proc/{id}/task/{id}/children"))?;
        let workers = workers.split_whitespace().map(|worker| cpu_micros(worker.parse()?));
        Ok(workers.sum::<anyhow::Result<u64>>()? + cpu_micros(id)?)
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // The signal that has nginx end its workers too.
        let id = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(id, rustix::process::Signal::TERM).ok();
        self.child.wait().ok();
    }
}

/// User and system time of a process, all of its threads.
fn cpu_micros(id: u32) -> anyhow::Result<u64> {
    let stat = fs::read_to_string(format!("/proc/{id}/stat"))?;
    // The fields after the name, which stands in parentheses: user time is the 12th of them, system time the 13th.
    let (_, fields) = stat.rsplit_once(") ").context("a stat line")?;
    let ticks: Vec<u64> = fields.split(' ').skip(11).take(2).filter_map(|field| field.parse().ok()).collect();
    Ok(ticks.iter().sum::<u64>() * 1_000_000 / rustix::param::clock_ticks_per_second())
}
