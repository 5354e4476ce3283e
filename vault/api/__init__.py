"""HTTP only: parse bytes, call one core function, render the answer."""
