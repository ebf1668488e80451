"""Everything that runs inside one platform: data, local training, local parameters, evaluation."""
