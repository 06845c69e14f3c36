"""Dashboards and alerts: what an on-call person looks at. Every name in them is one that the program has, or they are not made."""
