use std::net::Ipv4Addr;
use std::process::{Command, Output};

/// A machine of its own as far as the network goes: a namespace of Linux, gone when it is dropped.
pub(crate) struct Namespace {
    name: String,
}

/// Two addresses that a cable of its own connects.
pub(crate) struct Cable {
    pub(crate) here: Ipv4Addr,
    pub(crate) there: Ipv4Addr,
}

impl Namespace {
    /// A new one, or why the system gives none: it takes `ip` and the right to make one, which root has.
    pub(crate) fn new(purpose: &str) -> Result<Self, String> {
        let name = format!("lenscast-{}-{purpose}", std::process::id());
        ip(&["netns", "add", &name])?;
        let namespace = Self { name };
        ip(&["-n", &namespace.name, "link", "set", "lo", "up"])?;
        Ok(namespace)
    }

    /// A program that is to run in here.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name, program]);
        command
    }

    /// Connects this one with where the tests run.
    pub(crate) fn connect(&self, cable: &Cable) -> Result<(), String> {
        let [ours, theirs] = cable.ends();
        ip(&["link", "add", &ours, "type", "veth", "peer", "name", &theirs, "netns", &self.name])?;
        ip(&["address", "add", &format!("{}/30", cable.here), "dev", &ours])?;
        ip(&["link", "set", &ours, "up"])?;
        self.raise(&theirs, cable.there)
    }

    /// Connects this one with another: `here` is its own address, `there` the other's.
    pub(crate) fn connect_with(&self, other: &Self, cable: &Cable) -> Result<(), String> {
        let [ours, theirs] = cable.ends();
        ip(&["-n", &self.name, "link", "add", &ours, "type", "veth", "peer", "name", &theirs, "netns", &other.name])?;
        self.raise(&ours, cable.here)?;
        other.raise(&theirs, cable.there)
    }

    fn raise(&self, interface: &str, address: Ipv4Addr) -> Result<(), String> {
        ip(&["-n", &self.name, "address", "add", &format!("{address}/30"), "dev", interface])?;
        ip(&["-n", &self.name, "link", "set", interface, "up"])
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // Its interfaces go with it, and the other ends of its cables with them.
        let _ = ip(&["netns", "delete", &self.name]);
    }
}

impl Cable {
    /// Cable `number`, 0 to 62, of this process. The addresses are of the block for tests of devices (RFC 2544), in which no
    /// network is.
    pub(crate) fn new(number: u8) -> Self {
        let net = (std::process::id() % 256) as u8;
        let address = |end| Ipv4Addr::new(198, 18, net, number * 4 + end);
        Self { here: address(1), there: address(2) }
    }

    /// Names of its ends: an interface's has 15 characters at most.
    fn ends(&self) -> [String; 2] {
        let [.., net, host] = self.here.octets();
        ["a", "b"].map(|end| format!("lc{net:02x}{host:02x}{}{end}", std::process::id() % 100_000))
    }
}

fn ip(arguments: &[&str]) -> Result<(), String> {
    let said = |output: Output| String::from_utf8_lossy(&output.stderr).trim().to_owned();
    match Command::new("ip").args(arguments).output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(format!("ip {}: {}", arguments.join(" "), said(output))),
        Err(error) => Err(format!("ip: {error}")),
    }
}
