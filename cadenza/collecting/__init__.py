"""What the operator of ``cadenza collect`` sees, hears and presses."""
