//! A connection between two parts on which packets can be made to vanish, so that nobody is told, as
//! when a cable is pulled or a firewall drops what it had let through.
//!
//! Where this process has a network of its own ([`crate::alone`]) the kernel drops the packets, so
//! that TCP's own limits are tried too. Elsewhere the bytes are only kept back: what is on its way is
//! delivered once the link comes back, as TCP would.

use crate::alone;
use std::{
    io,
    net::{SocketAddr, TcpListener as StdListener},
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream, UnixStream},
    runtime::Runtime,
    sync::watch,
};

/// Where a link leads to.
#[derive(Debug, Clone)]
pub enum Target {
    /// `HOST:PORT`.
    Tcp(String),
    /// A socket in the file system.
    Unix(PathBuf),
}

/// What becomes of the bytes.
#[derive(Debug, Clone, Copy, Default)]
struct State {
    /// Nothing comes through.
    hangs: bool,
    /// Connections with a lower number are dead, and don't know it.
    stranded_below: u64,
    /// Connections with a lower number are to be closed.
    cut_below: u64,
    /// The number of the next connection.
    next: u64,
}

/// A listener on a free port of 127.0.0.1, which passes on whatever comes.
#[derive(Debug)]
pub struct Link {
    address: SocketAddr,
    target: Arc<Mutex<Option<Target>>>,
    state: watch::Sender<State>,
    /// The ports of all who have connected: so many of them are dead, and don't know it.
    peers: Arc<Mutex<Vec<u16>>>,
    stranded: AtomicUsize,
    // Dropped last: its threads carry the bytes.
    _runtime: Runtime,
}

impl Link {
    /// A link that leads nowhere yet: connections wait until it does.
    pub fn new() -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?;
        let listener = StdListener::bind("127.0.0.1:0")?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let (state, _) = watch::channel(State::default());
        let target = Arc::new(Mutex::new(None));
        let carrier = Carrier {
            target: Arc::clone(&target),
            state: state.subscribe(),
            number: 0,
        };
        let (counter, peers) = (state.clone(), Arc::<Mutex<Vec<u16>>>::default());
        let seen = Arc::clone(&peers);
        let listener = {
            let _entered = runtime.enter();
            TcpListener::from_std(listener)?
        };
        runtime.spawn(async move {
            loop {
                match listener.accept().await {
                    Ok((stream, peer)) => {
                        locked(&seen).push(peer.port());
                        let number = counter.borrow().next;
                        counter.send_modify(|state| state.next += 1);
                        let carrier = carrier.clone();
                        drop(tokio::spawn(Carrier { number, ..carrier }.carry(stream)));
                    }
                    Err(problem) => {
                        eprintln!("imgsys-faults: a link takes no connections: {problem}");
                        return;
                    }
                }
            }
        });
        Ok(Self {
            address,
            target,
            state,
            peers,
            stranded: AtomicUsize::new(0),
            _runtime: runtime,
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Leads it there from now on.
    pub fn lead_to(&self, target: Target) {
        *locked(&self.target) = Some(target);
    }

    /// From now on nothing comes through.
    pub fn hang(&self) -> anyhow::Result<()> {
        if alone::is_entered() {
            return self.drop_packets(true);
        }
        self.state.send_modify(|state| state.hangs = true);
        Ok(())
    }

    /// New connections work again; those that are there are dead for ever, though neither side is
    /// told.
    pub fn strand(&self) -> anyhow::Result<()> {
        self.stranded
            .store(locked(&self.peers).len(), Ordering::Relaxed);
        if alone::is_entered() {
            return self.drop_packets(false);
        }
        self.state.send_modify(|state| {
            state.stranded_below = state.next;
            state.hangs = false;
        });
        Ok(())
    }

    /// Drops all packets, or only those of stranded connections.
    fn drop_packets(&self, all: bool) -> anyhow::Result<()> {
        let port = self.address.port();
        let mut rules = format!(
            "add table inet link{port}\nflush table inet link{port}\n\
             add chain inet link{port} in {{ type filter hook input priority 0; }}\n"
        );
        let mut vanish = |of: &str| {
            let rule = format!("add rule inet link{port} in {of} drop\n");
            rules.push_str(&rule);
        };
        if all {
            vanish(&format!("tcp dport {port}"));
            vanish(&format!("tcp sport {port}"));
        }
        let stranded = self.stranded.load(Ordering::Relaxed);
        for peer in locked(&self.peers).iter().take(stranded) {
            vanish(&format!("tcp dport {port} tcp sport {peer}"));
            vanish(&format!("tcp sport {port} tcp dport {peer}"));
        }
        alone::filter(&rules)
    }

    /// Closes all connections.
    pub fn cut(&self) {
        self.state.send_modify(|state| state.cut_below = state.next);
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Clone)]
struct Carrier {
    target: Arc<Mutex<Option<Target>>>,
    state: watch::Receiver<State>,
    number: u64,
}

impl Carrier {
    async fn carry(mut self, stream: TcpStream) {
        let (mut cuts, number) = (self.state.clone(), self.number);
        let carried = async {
            self.until_flowing().await?;
            let target = self.target();
            // An end that can't be reached closes the connection, as a refusal would.
            match target {
                Some(Target::Tcp(address)) => {
                    let other = TcpStream::connect(address).await?;
                    other.set_nodelay(true)?;
                    self.both_ways(stream, other).await
                }
                Some(Target::Unix(path)) => {
                    let other = UnixStream::connect(path).await?;
                    self.both_ways(stream, other).await
                }
                None => Ok(()),
            }
        };
        tokio::select! {
            // Errors are the ends' own; the connection goes with them.
            _ended = carried => {}
            _cut = cuts.wait_for(|state| number < state.cut_below) => {}
        }
    }

    fn target(&self) -> Option<Target> {
        locked(&self.target).clone()
    }

    fn flows(&self) -> impl Fn(&State) -> bool + use<> {
        let number = self.number;
        move |state| !state.hangs && number >= state.stranded_below
    }

    async fn until_flowing(&mut self) -> io::Result<()> {
        let flows = self.flows();
        let flowing = self.state.wait_for(flows).await;
        flowing.map(drop).map_err(io::Error::other)
    }

    async fn both_ways<S>(&self, near: TcpStream, far: S) -> io::Result<()>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        near.set_nodelay(true)?;
        let (near_read, near_write) = tokio::io::split(near);
        let (far_read, far_write) = tokio::io::split(far);
        tokio::try_join!(
            self.clone().pump(near_read, far_write),
            self.clone().pump(far_read, near_write),
        )?;
        Ok(())
    }

    async fn pump<R, W>(mut self, mut from: R, mut to: W) -> io::Result<()>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        let mut buffer = vec![0; 64 << 10];
        loop {
            self.until_flowing().await?;
            let flows = self.flows();
            let read = tokio::select! {
                read = from.read(&mut buffer) => read,
                changed = self.state.wait_for(|state| !flows(state)) => {
                    changed.map_err(io::Error::other)?;
                    continue;
                }
            };
            self.until_flowing().await?;
            match read? {
                0 => return to.shutdown().await,
                some => to.write_all(&buffer[..some]).await?,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    // Tests fail by panicking.
    #![allow(clippy::unwrap_used)]

    use super::*;
    use std::{
        io::{Read, Write},
        net::TcpStream as Stream,
        thread,
        time::Duration,
    };

    /// Says everything again.
    fn echo() -> String {
        let listener = StdListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                thread::spawn(move || {
                    let mut other = stream.try_clone().unwrap();
                    _ = io::copy(&mut stream, &mut other);
                });
            }
        });
        address
    }

    fn ask(stream: &mut Stream, patience: Duration) -> io::Result<u8> {
        stream.set_read_timeout(Some(patience))?;
        stream.write_all(b"x")?;
        let mut answer = [0];
        stream.read_exact(&mut answer)?;
        Ok(answer[0])
    }

    #[test]
    fn stranded_connections_are_dead_and_new_ones_work() {
        let (short, long) = (Duration::from_millis(100), Duration::from_secs(60));
        let link = Link::new().unwrap();
        link.lead_to(Target::Tcp(echo()));
        let mut old = Stream::connect(link.address()).unwrap();
        assert_eq!(ask(&mut old, long).unwrap(), b'x');
        link.hang().unwrap();
        let silent = ask(&mut old, short).unwrap_err();
        assert_eq!(silent.kind(), io::ErrorKind::WouldBlock);
        link.strand().unwrap();
        let mut new = Stream::connect(link.address()).unwrap();
        assert_eq!(ask(&mut new, long).unwrap(), b'x');
        let silent = ask(&mut old, short).unwrap_err();
        assert_eq!(silent.kind(), io::ErrorKind::WouldBlock);
        link.cut();
        let gone = ask(&mut new, long).unwrap_err();
        assert_ne!(gone.kind(), io::ErrorKind::WouldBlock);
    }
}
