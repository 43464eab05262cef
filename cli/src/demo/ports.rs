//! Are the ports free? Asked before anything starts, so that all that are taken
//! are named at once, each with who wants it and what moves it.

use std::io;
use std::net::{SocketAddr, TcpListener};

use config::Role;

use super::plan::Plan;
use crate::failure::Failure;

/// Fails with one line for each port that cannot be had.
pub(super) fn check_free(plan: &Plan, origin: Option<SocketAddr>) -> Result<(), Failure> {
    let taken: Vec<_> = wanted(plan, origin)
        .into_iter()
        .filter_map(|(address, who, mend)| {
            // The socket is closed at once; the node that wants the port binds its own.
            let error = TcpListener::bind(address).err()?;
            Some(match error.kind() {
                io::ErrorKind::AddrInUse => {
                    format!(
                        "{address} is in use, and {who} wants it; stop what holds it, or {mend}"
                    )
                }
                _ => format!("{who} cannot have {address} ({error}); {mend}"),
            })
        })
        .collect();
    if taken.is_empty() {
        Ok(())
    } else {
        Err(Failure::because(taken.join("\nheadwater: ")))
    }
}

/// Every address of the topology, who wants it, and which flag changes that.
fn wanted(plan: &Plan, origin: Option<SocketAddr>) -> Vec<(SocketAddr, String, &'static str)> {
    let mut wanted = Vec::new();
    if let Some(address) = origin {
        let mend = "use --origin URL for another origin, or --base-port PORT to move all ports";
        wanted.push((address, "the demo origin".to_owned(), mend));
    }
    for node in plan.uppers().chain(plan.edges()) {
        let mend = match node.role {
            Role::Edge => "use --base-port PORT to move all ports, or --edges N for fewer edges",
            Role::UpperTier => {
                "use --base-port PORT to move all ports, or --uppers N for fewer upper tiers"
            }
        };
        let name = node.name();
        wanted.push((
            node.admin_address(),
            format!("the admin listener of {name}"),
            mend,
        ));
        wanted.push((node.address(), name, mend));
    }
    wanted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_taken_port_is_named_with_who_wants_it_and_the_flag() {
        // A port of the system's choice, seen as the origin's: the rest follows from it.
        let held = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = held.local_addr().unwrap();
        let plan = Plan {
            edges: 1,
            uppers: 0,
            base_port: 8000,
            ..Plan::default()
        };
        let failure = check_free(&plan, Some(address)).unwrap_err();
        let first = failure.words().lines().next().unwrap();
        assert_eq!(
            first,
            format!(
                "{address} is in use, and the demo origin wants it; stop what holds it, or use --origin URL \
                 for another origin, or --base-port PORT to move all ports"
            )
        );
    }

    #[test]
    fn every_listener_of_the_topology_is_asked_for() {
        let plan = Plan::default();
        let wanted = wanted(&plan, Some(plan.origin_address()));
        let ports: Vec<_> = wanted.iter().map(|(address, ..)| address.port()).collect();
        assert_eq!(
            ports,
            [
                8000, 9091, 8091, 9092, 8092, 9081, 8081, 9082, 8082, 9083, 8083
            ]
        );
    }
}
