"""Engine bundles at work: frames in, label maps out."""
