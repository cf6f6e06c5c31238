"""Real simulators behind the `Simulator` contract. Imported on demand: MuJoCo is heavy and Isaac Lab optional."""
