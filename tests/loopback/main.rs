//! Real nodes on loopback, found through the DHT: the journeys of a model, what disturbs them, and peers that mean harm.

mod caps;
mod company;
mod damage;
mod flight;
mod gateway;
mod hostile;
mod introductions;
mod journeys;
mod manifests;
mod mending;
mod mirrors;
mod misdeeds;
mod noise;
mod overlaps;
mod parents;
mod paths;
mod quota;
mod raw_peer;
mod requesters;
mod stage;
mod transports;
