//! The operator: observe → plan → act → status, once per look at a StoreCluster.
//!
//! | module | what lives there | may touch |
//! |---|---|---|
//! | `crd` | the custom resource: types, validation | nothing |
//! | `names`, `placement` | names of objects; which member lives where | nothing |
//! | `observe/` | Kubernetes objects and the members' answers, turned into facts | the API server, members (reading) |
//! | `plan` | facts to the next steps; pure | nothing |
//! | `desired/` | the objects that should be there; pure | nothing |
//! | `act/` | performs steps | the API server, members |
//! | `status` | facts and plan to the status; pure | nothing |
//! | `reconcile` | the order of the above | all of them |

pub mod act;
pub mod certificates;
pub mod crd;
pub mod desired;
pub mod http;
pub mod lease;
pub mod metrics;
pub mod names;
pub mod observe;
pub mod placement;
pub mod plan;
pub mod reconcile;
pub mod status;
pub mod store;
