//! Quorate on the embedded Kubernetes: root is needed, so `make test` asks for these by name. Each test has a namespace of
//! its own; they share one operator and run one after the other, since some of them cut nodes off.

mod availability;
mod basics;
mod lifecycle;
mod protocols;
mod support;
mod witness;
mod zone_loss;
