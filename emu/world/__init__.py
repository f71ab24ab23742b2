"""Who answers a trap and why, pure: profiles, policies, services."""
