"""Moving in and out: what ``strongroom records import`` and ``export`` do, one noun in each module."""
