"""What a user-level private step costs: plain, Opacus' hooks, Opacus' ghost clipping and ours, side by side."""
